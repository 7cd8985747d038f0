//! Building graphs on the models that a snapshot serves.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use weir_artifact::{GraphDraft, GraphPlan, ModelSpec};
use weir_engine::EngineInfo;
use weir_types::{ErrorCode, ModelName, Version};

use super::{GraphExecutor, order::order};
use crate::{LoadOptions, Reason, ServedVersion, ServingSnapshot, background::Background, features, samples};

/// Builds every graph whose draft `next` holds on the models that `next` serves. A graph that
/// is the same on the same models is taken over as it is; one that cannot be built leaves in
/// place what serves in `previous`.
pub(crate) fn settle(
    next: &mut ServingSnapshot,
    previous: &ServingSnapshot,
    options: &LoadOptions,
    background: &Background,
) {
    let order = order(next.drafts());
    let circular = order.circular.into_iter().map(|(draft, circle)| {
        let reason = format!("graphs must not ask each other in a circle: {circle}");
        (draft, Some(Reason::open(reason)))
    });
    let all: Vec<_> = order.ready.into_iter().map(|draft| (draft, None)).chain(circular).collect();
    for (draft, refused) in all {
        let built = match refused {
            None => build(&draft, next, previous, (options, background)),
            Some(reason) => Err(reason),
        };
        next.place(draft.candidate(), built, previous);
    }
}

fn build(
    draft: &GraphDraft,
    next: &ServingSnapshot,
    previous: &ServingSnapshot,
    (options, background): (&LoadOptions, &Background),
) -> Result<Arc<ServedVersion>, Reason> {
    let find = |model: &ModelName, version: Option<&Version>| {
        let found = next.version(model.as_str(), version.map(Version::as_str));
        found.map_err(|error| match error.code {
            ErrorCode::NotFound if version.is_none() => {
                format!("{error}: a graph asks models that are served beside it")
            }
            _ => error.message.into_owned(),
        })
    };
    // What is told of a version that is not there is told to callers too.
    let absent = RefCell::new(BTreeSet::new());
    let lookup = |model: &ModelName, version: Option<&Version>| {
        let found = find(model, version).map(|served| &*served.spec);
        found.inspect_err(|text| {
            absent.borrow_mut().insert(text.clone());
        })
    };
    let mut spec = draft.resolve(&lookup).map_err(|problems| {
        let (reason, absent) = (Reason::of_files(&problems), absent.take());
        match absent.is_empty() {
            true => reason,
            false => Reason::new(absent.into_iter().collect::<Vec<_>>().join("\n"), reason.to_string()),
        }
    })?;
    let lookup = features::bind(&mut spec, options.features.as_ref())?;
    let plan = spec.graph.clone().ok_or_else(|| Reason::open("the graph has no plan"))?;
    let members = plan.members.iter().map(|member| find(&member.model, Some(&member.version)).cloned());
    let members = members.collect::<Result<Vec<_>, _>>().map_err(Reason::open)?;
    let serving = previous.find(&spec.name, &spec.version).filter(|serving| same(serving, &spec, &members));
    if let Some(serving) = serving {
        return Ok(serving.clone());
    }
    let executor = Arc::new(GraphExecutor::new(plan.clone(), members.clone(), options.clock.clone()));
    samples::check_executor(&spec, &*executor, &*options.clock, background)?;
    let (spec, engine) = (Arc::new(spec), info(&plan));
    let executor = options.keeping(&spec, &engine, &members, executor);
    Ok(Arc::new(ServedVersion { engine, spec, executor, lookup, members }))
}

/// Whether `serving` is what would be built.
fn same(serving: &ServedVersion, spec: &ModelSpec, members: &[Arc<ServedVersion>]) -> bool {
    let unchanged = |(a, b): (&Arc<ServedVersion>, &Arc<ServedVersion>)| Arc::ptr_eq(a, b);
    serving.spec.digest == spec.digest
        && serving.spec.cache == spec.cache
        && serving.members.len() == members.len()
        && serving.members.iter().zip(members).all(unchanged)
}

fn info(plan: &GraphPlan) -> EngineInfo {
    let members: Vec<_> = plan.members.iter().map(|m| format!("{}/{}", m.model, m.version)).collect();
    let reason = format!("{} steps on {}", plan.steps.len(), members.join(", "));
    EngineInfo { name: "graph", version: env!("CARGO_PKG_VERSION").to_owned(), reason }
}
