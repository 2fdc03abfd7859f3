//! Which modules get a LoRA adapter, of which rank and alpha.

use regex::Regex;
use taper_core::{FieldError, Lora, TargetModules};

use crate::{Result, methods::layer_of};

/// A LoRA specification made ready to be asked, module by module, what adapter it gets. The rules are PEFT's.
pub(in crate::methods) struct LoraTuner<'a> {
    pub(super) lora: &'a Lora,
    targets: Targets,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

enum Targets {
    AllLinear,
    Names(Vec<String>),
    Whole(Regex),
}

/// The adapter of one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AdapterShape {
    pub(super) r: usize,
    pub(super) alpha: f64,
    /// What the adapter's output is multiplied by.
    pub(super) scale: f64,
}

impl<'a> LoraTuner<'a> {
    /// # Errors
    /// A regular expression that is none.
    pub(in crate::methods) fn new(lora: &'a Lora) -> Result<Self> {
        let targets = match &lora.target_modules {
            Some(TargetModules::Pattern(word)) if word == TargetModules::ALL_LINEAR => {
                Targets::AllLinear
            }
            Some(TargetModules::Pattern(pattern)) => Targets::Whole(expression(
                "tuning.target_modules",
                &format!("^(?:{pattern})$"),
            )?),
            Some(TargetModules::Names(names)) => Targets::Names(names.clone()),
            None => Targets::Names(Vec::new()),
        };
        let suffix = |param: &str, key: &str| expression(param, &format!("^(?:.*\\.)?(?:{key})$"));
        let ranks = lora
            .rank_pattern
            .iter()
            .map(|(key, r)| Ok((suffix("tuning.rank_pattern", key)?, *r)));
        let alphas = lora
            .alpha_pattern
            .iter()
            .map(|(key, a)| Ok((suffix("tuning.alpha_pattern", key)?, *a)));
        let (ranks, alphas) = (
            ranks.collect::<Result<_>>()?,
            alphas.collect::<Result<_>>()?,
        );
        Ok(Self {
            lora,
            targets,
            ranks,
            alphas,
        })
    }

    /// The adapter of a linear module; `None` when it gets none.
    pub(super) fn shape(&self, path: &str) -> Option<AdapterShape> {
        let layers = self.lora.layers_to_transform.as_ref();
        let in_layers =
            layers.is_none_or(|layers| layer_of(path).is_some_and(|i| layers.contains(&i)));
        if !in_layers || !self.targets.name(path) || self.saves(path) {
            return None;
        }
        let r = first(&self.ranks, path).unwrap_or(self.lora.r);
        let alpha = first(&self.alphas, path).unwrap_or(self.lora.lora_alpha);
        let divisor = if self.lora.use_rslora {
            (r as f64).sqrt()
        } else {
            r as f64
        };
        Some(AdapterShape {
            r,
            alpha,
            scale: alpha / divisor,
        })
    }

    /// Whether a module of the base is trained whole: one that `modules_to_save` names, or one inside it.
    pub(super) fn saves(&self, path: &str) -> bool {
        let path = format!(".{path}.");
        self.lora
            .modules_to_save
            .iter()
            .flatten()
            .any(|module| path.contains(&format!(".{module}.")))
    }

    /// Targets and modules that name none of these paths, with their field.
    pub(super) fn unmatched(
        &self,
        linears: &[String],
        modules: &[String],
    ) -> Vec<(&'static str, String)> {
        let none = |name: &str, paths: &[String]| !paths.iter().any(|path| is_suffix(name, path));
        let mut unmatched = Vec::new();
        match &self.targets {
            Targets::Names(names) => {
                let missing = names.iter().filter(|name| none(name, linears));
                unmatched.extend(missing.map(|name| ("tuning.target_modules", name.clone())));
            }
            Targets::Whole(pattern) if !linears.iter().any(|path| pattern.is_match(path)) => {
                unmatched.push(("tuning.target_modules", pattern.to_string()));
            }
            Targets::Whole(_) | Targets::AllLinear => {}
        }
        // PEFT also takes names that merely end in the word; what that would add is refused, so that both mean the same modules.
        let clear = |name: &str| {
            modules.iter().any(|path| is_suffix(name, path))
                && modules
                    .iter()
                    .all(|path| !path.ends_with(name) || is_suffix(name, path))
        };
        let missing = self
            .lora
            .modules_to_save
            .iter()
            .flatten()
            .filter(|name| !clear(name));
        unmatched.extend(missing.map(|name| ("tuning.modules_to_save", name.clone())));
        for (param, patterns) in [
            ("tuning.rank_pattern", keys(&self.ranks)),
            ("tuning.alpha_pattern", keys(&self.alphas)),
        ] {
            let missing = patterns
                .into_iter()
                .filter(|pattern| !linears.iter().any(|path| pattern.is_match(path)));
            unmatched.extend(missing.map(|pattern| (param, pattern.to_string())));
        }
        let layers = self.lora.layers_to_transform.iter().flatten();
        let missing =
            layers.filter(|layer| !linears.iter().any(|path| layer_of(path) == Some(**layer)));
        unmatched
            .extend(missing.map(|layer| ("tuning.layers_to_transform", format!("layer {layer}"))));
        let adapted = linears.iter().any(|path| self.shape(path).is_some());
        if unmatched.is_empty() && !adapted {
            unmatched.push((
                "tuning.target_modules",
                "nothing that is left to adapt".to_owned(),
            ));
        }
        unmatched
    }
}

impl Targets {
    fn name(&self, path: &str) -> bool {
        match self {
            Self::AllLinear => true,
            Self::Names(names) => names.iter().any(|name| is_suffix(name, path)),
            Self::Whole(pattern) => pattern.is_match(path),
        }
    }
}

fn expression(param: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|e| {
        FieldError::invalid(param, format!("'{param}' is not a regular expression: {e}")).into()
    })
}

fn keys<T>(patterns: &[(Regex, T)]) -> Vec<&Regex> {
    patterns.iter().map(|(pattern, _)| pattern).collect()
}

fn first<T: Copy>(patterns: &[(Regex, T)], path: &str) -> Option<T> {
    patterns
        .iter()
        .find(|(pattern, _)| pattern.is_match(path))
        .map(|(_, value)| *value)
}

/// PEFT's rule for names: the exact path, or a suffix of it after a dot.
fn is_suffix(name: &str, path: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Option<TargetModules> {
        Some(TargetModules::Names(
            list.iter().map(|n| (*n).to_owned()).collect(),
        ))
    }

    #[test]
    fn targets_are_names_or_suffixes_after_a_dot() {
        let lora = Lora {
            target_modules: names(&["query", "output.dense"]),
            ..Lora::default()
        };
        let plan = LoraTuner::new(&lora).unwrap();
        for (path, matches) in [
            ("bert.encoder.layer.0.attention.self.query", true),
            ("query", true),
            ("bert.encoder.layer.0.myquery", false),
            ("bert.encoder.layer.0.attention.output.dense", true),
            ("bert.encoder.layer.0.intermediate.dense", false),
        ] {
            assert_eq!(plan.shape(path).is_some(), matches, "{path}");
        }
    }

    #[test]
    fn patterns_and_layers_pick_rank_and_scale() {
        let lora = Lora {
            r: 4,
            lora_alpha: 8.0,
            target_modules: Some(TargetModules::Pattern("all-linear".to_owned())),
            rank_pattern: [("layers.1.self_attn.q_proj".to_owned(), 16)].into(),
            alpha_pattern: [("q_proj".to_owned(), 2.0)].into(),
            layers_to_transform: Some(vec![1]),
            use_rslora: true,
            ..Lora::default()
        };
        let plan = LoraTuner::new(&lora).unwrap();
        assert_eq!(plan.shape("model.layers.0.self_attn.q_proj"), None);
        let shape = plan.shape("model.layers.1.self_attn.q_proj").unwrap();
        assert_eq!(
            shape,
            AdapterShape {
                r: 16,
                alpha: 2.0,
                scale: 0.5
            }
        );
        assert_eq!(plan.shape("model.layers.1.mlp.up_proj").unwrap().scale, 4.0);
    }

    #[test]
    fn a_module_that_is_trained_whole_gets_no_adapter() {
        let lora = Lora {
            target_modules: names(&["query", "dense"]),
            modules_to_save: Some(vec!["pooler".to_owned()]),
            ..Lora::default()
        };
        let plan = LoraTuner::new(&lora).unwrap();
        assert!(plan.saves("bert.pooler.dense") && !plan.saves("bert.mypooler.dense"));
        assert_eq!(plan.shape("bert.pooler.dense"), None);
        assert!(plan.shape("bert.encoder.layer.0.output.dense").is_some());
    }

    #[test]
    fn what_matches_nothing_is_named() {
        let lora = Lora {
            target_modules: names(&["query", "quary"]),
            modules_to_save: Some(vec!["pooler".to_owned()]),
            ..Lora::default()
        };
        let plan = LoraTuner::new(&lora).unwrap();
        let linears = ["a.query".to_owned()];
        let unmatched = plan.unmatched(&linears, &linears);
        assert_eq!(
            unmatched,
            [
                ("tuning.target_modules", "quary".to_owned()),
                ("tuning.modules_to_save", "pooler".to_owned())
            ]
        );
        let linears = ["model.layers.0.mlp.up_proj".to_owned()];
        let modules = [
            "model.layers.0.input_layernorm".to_owned(),
            "model.norm".to_owned(),
        ];
        let lora = Lora {
            target_modules: names(&["up_proj"]),
            rank_pattern: [("up_prj".to_owned(), 2)].into(),
            layers_to_transform: Some(vec![0, 99]),
            modules_to_save: Some(vec!["norm".to_owned()]),
            ..Lora::default()
        };
        let params: Vec<_> = LoraTuner::new(&lora)
            .unwrap()
            .unmatched(&linears, &modules)
            .into_iter()
            .map(|(param, _)| param)
            .collect();
        assert_eq!(
            params,
            [
                "tuning.modules_to_save",
                "tuning.rank_pattern",
                "tuning.layers_to_transform"
            ]
        );
        let broken = Lora {
            target_modules: Some(TargetModules::Pattern("(".to_owned())),
            ..Lora::default()
        };
        assert!(LoraTuner::new(&broken).is_err());
    }
}
