//! What is said of a parameter where it is made is what its name in transformers tells: weight decay and learning rates hang on it.

use taper_core::{Full, Lora, Method, PromptTuning, TargetModules, TaskType};

use super::families::golden;
use crate::{
    families::Family, model_folder::ModelFolder, models::Model, parameters::Group, tasks::task,
};

/// transformers exempts biases and norms from weight decay; GPT-2 calls its norms ln_1, ln_2 and ln_f.
fn decays_by_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let norm = lower.contains("norm") || lower.contains(".ln_");
    !lower.ends_with("bias") && !norm
}

fn group_by_name(name: &str) -> Group {
    let layer = name.split('.').find_map(|part| part.parse().ok());
    let embeds = ["embed", ".wte.", ".wpe."]
        .iter()
        .any(|part| name.contains(part));
    match (name, layer) {
        _ if name.ends_with("lora_A.weight") => Group::Adapter("lora_A"),
        _ if name.ends_with("lora_B.weight") => Group::Adapter("lora_B"),
        ("prompt_embeddings", _) => Group::Adapter("prompt"),
        (_, Some(layer)) => Group::Layer(layer),
        (_, None) if embeds => Group::Embeddings,
        (_, None) => Group::Head,
    }
}

#[test]
fn kinds_and_groups_are_those_that_the_names_tell() {
    let methods = [
        Method::Full(Full {}),
        Method::Lora(Lora {
            target_modules: Some(TargetModules::Pattern("all-linear".to_owned())),
            ..Lora::default()
        }),
        Method::PromptTuning(PromptTuning {
            num_virtual_tokens: 2,
            ..PromptTuning::default()
        }),
    ];
    let mut seen = 0;
    for family in Family::ALL.iter().map(|family| family.describe()) {
        for name in family.golden {
            let dir = golden().join("families").join(name);
            let folder = ModelFolder::without_tokenizer(&dir).unwrap();
            let weights = folder.weights().unwrap();
            let tasks = [TaskType::SeqCls, TaskType::CausalLm].map(task);
            for task in tasks.into_iter().filter(|task| task.suits(family)) {
                for method in &methods {
                    let model = Model::outline(&folder, &weights, method, task.head(3)).unwrap();
                    for parameter in model.parameters.list {
                        let label = format!("{name} {}", parameter.name);
                        assert_eq!(
                            parameter.kind.decays(),
                            decays_by_name(&parameter.name),
                            "{label}"
                        );
                        assert_eq!(parameter.group, group_by_name(&parameter.name), "{label}");
                        seen += 1;
                    }
                }
            }
        }
    }
    assert!(seen > 1000, "{seen}");
}
