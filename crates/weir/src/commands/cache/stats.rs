//! `weir cache stats`.

use std::process::ExitCode;

use serde_json::Value;

use super::{Admin, count, share};
use crate::{
    args::AdminPlace,
    commands::load::print::{grouped, ms},
    output::{Output, size},
};

pub(super) fn run(place: &AdminPlace, output: &Output) -> anyhow::Result<ExitCode> {
    let body = Admin::at(place)?.get("/admin/v1/cache")?;
    if output.is_json() {
        output.json(&body);
        return Ok(ExitCode::SUCCESS);
    }
    let models = body["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    if models.is_empty() {
        output.note("no model keeps its answers: give a model.toml a [cache]");
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["model", "answers", "hit", "partial", "miss", "bypassed", "coalesced", "stale", "saved"];
    output.table(&header, &models.iter().map(answers).collect::<Vec<_>>());
    output.line("");
    let header = [
        "model",
        "tier",
        "rows found",
        "missed",
        "expired",
        "evicted",
        "dropped",
        "look-up",
        "entries",
        "size",
    ];
    output.table(&header, &models.iter().flat_map(tiers).collect::<Vec<_>>());
    if body["redis"].is_object() {
        output.line("");
        let header = ["redis", "breaker", "calls", "failures", "trouble"];
        let nodes = body["redis"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        output.table(&header, &nodes.iter().map(node).collect::<Vec<_>>());
    }
    Ok(ExitCode::SUCCESS)
}

fn name(model: &Value) -> String {
    let text = |key: &str| model[key].as_str().unwrap_or_default();
    format!("{}/{}", text("model"), text("version"))
}

fn answers(model: &Value) -> Vec<String> {
    let of = |key: &str| count(&model["answers"][key]);
    let all = of("hit") + of("partial") + of("miss");
    vec![
        name(model),
        grouped(all),
        share(of("hit"), all),
        share(of("partial"), all),
        share(of("miss"), all),
        grouped(of("bypassed")),
        grouped(count(&model["rows"]["coalesced"])),
        grouped(count(&model["rows"]["stale"])),
        format!("{:.2} s", model["model_seconds_saved"].as_f64().unwrap_or_default()),
    ]
}

/// The tiers that were asked; memory always.
fn tiers(model: &Value) -> Vec<Vec<String>> {
    let tier = |tier: &str| {
        let stats = &model["tiers"][tier];
        let of = |key: &str| count(&stats[key]);
        let memory = tier == "memory";
        let mean = stats["lookup_seconds"].as_f64().unwrap_or_default() * 1e3 / of("lookups").max(1) as f64;
        let held = |text: String| if memory { text } else { "–".into() };
        (memory || of("lookups") + of("filled") + of("dropped") > 0).then(|| {
            vec![
                name(model),
                tier.to_owned(),
                share(of("hits"), of("hits") + of("misses")),
                grouped(of("misses")),
                grouped(of("expired")),
                held(grouped(of("evicted"))),
                grouped(of("dropped")),
                if of("lookups") == 0 { "–".into() } else { format!("{} ms", ms(mean)) },
                held(grouped(of("entries"))),
                held(size(of("bytes"))),
            ]
        })
    };
    ["memory", "redis"].into_iter().filter_map(tier).collect()
}

fn node(node: &Value) -> Vec<String> {
    let text = |key: &str| node[key].as_str().unwrap_or("–").to_owned();
    let [calls, failures] = ["calls", "failures"].map(|key| grouped(count(&node[key])));
    vec![text("name"), text("breaker"), calls, failures, text("trouble")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tier_that_was_never_asked_has_no_line() {
        let tier =
            |lookups: u64| json!({"hits": 3, "misses": 1, "lookups": lookups, "lookup_seconds": 0.002});
        let model =
            |redis| json!({"model": "m", "version": "1", "tiers": {"memory": tier(2), "redis": tier(redis)}});
        assert_eq!(tiers(&model(0)).len(), 1);
        let both = tiers(&model(1));
        assert_eq!((both.len(), both[0][2].as_str(), both[0][7].as_str()), (2, "75.0 %", "1.00 ms"));
    }
}
