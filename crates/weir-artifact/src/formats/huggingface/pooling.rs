//! `modules.json` and `1_Pooling/config.json` of sentence-transformers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Folder;
use crate::{Pooling, Reading, encoder_output, onnx::OnnxModel};

/// The modules that a sentence model is made of.
pub(super) const MODULES: &str = "modules.json";

/// Holds prompts that are put in front of texts.
const SETTINGS: &str = "config_sentence_transformers.json";

#[derive(Debug, Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

/// `1_Pooling/config.json`: older files have a switch a mode, newer ones `pooling_mode`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode: Option<Value>,
    #[serde(flatten)]
    switches: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl Folder<'_> {
    /// How token vectors become one, and whether it is normalised; `None` where that was
    /// refused.
    pub(super) fn modules(&mut self, graph: &OnnxModel) -> Option<(Pooling, bool)> {
        self.prompts();
        let tokens = encoder_output(&graph.signature, Reading::Tokens).is_ok();
        let Some(modules) = self.json::<Vec<Module>>(MODULES) else { return self.without_modules(tokens) };
        let mut found = (None, false);
        for module in &modules {
            let kind = module.type_name();
            match kind.as_str() {
                "Transformer" if module.path.is_empty() => {}
                "Transformer" => {
                    let path: String = module.path.chars().take(64).collect();
                    self.problem(
                        MODULES,
                        format!("the transformer is in `{path}`: move its files up into the folder"),
                    );
                }
                "Pooling" => found.0 = self.pooling(&module.path),
                "Normalize" => found.1 = true,
                _ => self.problem(
                    MODULES,
                    format!("the module {kind} is not served: Transformer, Pooling and Normalize are"),
                ),
            }
        }
        match found.0 {
            // An export of the whole sentence model pools by itself.
            Some(_) if !tokens => Some((Pooling::None, found.1)),
            Some(pooling) => Some((pooling, found.1)),
            None if self.problems.is_empty() => {
                self.problem(MODULES, "no Pooling among the modules: token vectors alone are not served");
                None
            }
            None => None,
        }
    }

    /// A plain encoder: only an export that pools by itself says what the embedding is.
    fn without_modules(&mut self, tokens: bool) -> Option<(Pooling, bool)> {
        if !tokens || !self.problems.is_empty() {
            return Some((Pooling::None, false));
        }
        self.problem(
            "config.json",
            format!(
                "nothing says how token vectors become one embedding: copy {MODULES} and 1_Pooling/config.json of \
                 the sentence-transformers model, or write `[text] pooling` into a model.toml"
            ),
        );
        None
    }

    fn pooling(&mut self, path: &str) -> Option<Pooling> {
        let name = format!("{path}/config.json");
        let before = self.problems.len();
        let Some(config) = self.json::<PoolingConfig>(&name) else {
            if self.problems.len() == before {
                self.problem(&name, "is missing");
            }
            return None;
        };
        let modes = config.modes();
        let known = |mode: &str| match mode {
            "mean_tokens" | "mean" => Some(Pooling::Mean),
            "cls_token" | "cls" => Some(Pooling::Cls),
            "max_tokens" | "max" => Some(Pooling::Max),
            _ => None,
        };
        match modes.as_slice() {
            [one] if known(one).is_some() => known(one),
            other => {
                let said = if other.is_empty() { "none".to_owned() } else { other.join(" + ") };
                let said: String = said.chars().take(200).collect();
                self.problem(&name, format!("the pooling {said} is not served: one of mean, cls and max is"));
                None
            }
        }
    }

    /// A default prompt would be put in front of every text.
    fn prompts(&mut self) {
        let Some(settings) = self.json::<Settings>(SETTINGS) else { return };
        let text = |name: &String| settings.prompts.get(name).cloned().flatten().unwrap_or_default();
        match &settings.default_prompt_name {
            Some(name) if !text(name).is_empty() => {
                let name: String = name.chars().take(64).collect();
                self.problem(SETTINGS, format!("the default prompt `{name}` is not served: callers must write it into the text, and default_prompt_name must go"));
            }
            _ => {
                let named: Vec<_> =
                    settings.prompts.keys().filter(|n| !text(n).is_empty()).take(10).collect();
                if !named.is_empty() {
                    let names = named
                        .iter()
                        .map(|n| n.chars().take(64).collect::<String>())
                        .collect::<Vec<_>>()
                        .join(", ");
                    self.notes
                        .push(format!("the prompts {names} are not added: callers write them into the text"));
                }
            }
        }
    }
}

impl Module {
    /// `sentence_transformers.models.Pooling` and newer, deeper paths end in the same name.
    fn type_name(&self) -> String {
        self.r#type.rsplit('.').next().unwrap_or_default().chars().take(64).collect()
    }
}

impl PoolingConfig {
    fn modes(&self) -> Vec<String> {
        match &self.pooling_mode {
            Some(Value::String(mode)) => mode.split('+').map(str::to_owned).collect(),
            Some(Value::Array(modes)) => modes.iter().map(|m| m.as_str().unwrap_or("?").to_owned()).collect(),
            _ => {
                let on = |(name, value): (&String, &Value)| {
                    let mode = name.strip_prefix("pooling_mode_")?;
                    (*value == Value::Bool(true)).then(|| mode.to_owned())
                };
                self.switches.iter().filter_map(on).collect()
            }
        }
    }
}
