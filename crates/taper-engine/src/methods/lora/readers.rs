//! What servers that read adapters of PEFT are known not to take: vLLM (`vllm/lora/peft_helper.py`, `vllm/config/lora.py`), llama.cpp
//! (`convert_lora_to_gguf.py`) and Ollama (`convert/convert.go`).

use taper_core::{TaskType, Warning, WarningCode};

use super::targets::{AdapterShape, LoraTuner};

/// The ranks that vLLM can be started for beyond its default of 16.
const VLLM_RANKS: [usize; 6] = [32, 64, 128, 256, 320, 512];
const VLLM_DEFAULT_RANK: usize = 16;

const MERGE: &str = "merge the adapter into its base first (PEFT's merge_and_unload)";

/// A warning for each kind of reason. These servers continue texts, so that of other tasks nothing is said.
pub(super) fn limits(tuner: &LoraTuner<'_>, task: TaskType, adapted: &[String]) -> Vec<Warning> {
    match task {
        TaskType::SeqCls => return Vec::new(),
        TaskType::CausalLm => {}
    }
    let shapes: Vec<_> = adapted
        .iter()
        .filter_map(|path| tuner.shape(path))
        .collect();
    let told = [
        whole_modules(tuner),
        large_rank(&shapes),
        unequal(&shapes),
        rank_stabilised(tuner),
        fractional(tuner),
    ];
    let warnings = told.into_iter().flatten();
    warnings
        .map(|message| Warning::new(WarningCode::ReaderLimits, message))
        .collect()
}

fn whole_modules(tuner: &LoraTuner<'_>) -> Option<String> {
    let modules = tuner.lora.modules_to_save.as_deref().unwrap_or_default();
    (!modules.is_empty()).then(|| {
        format!(
            "tuning.modules_to_save puts whole modules ({}) into the adapter: PEFT loads it, vLLM and llama.cpp refuse it; for these {MERGE}, or leave modules_to_save out",
            modules.join(", ")
        )
    })
}

fn large_rank(shapes: &[AdapterShape]) -> Option<String> {
    let widest = shapes.iter().map(|shape| shape.r).max()?;
    (widest > VLLM_DEFAULT_RANK).then(|| {
        let way = match VLLM_RANKS.into_iter().find(|most| *most >= widest) {
            Some(most) => format!("start it with --max-lora-rank {most}"),
            None => format!("{MERGE}, since none of its settings goes so far"),
        };
        format!(
            "adapters of rank {widest} are beyond the {VLLM_DEFAULT_RANK} that vLLM takes by default; {way}, or lower the rank"
        )
    })
}

/// Both multiply all adapters by one number: vLLM by `lora_alpha / r` of the whole, llama.cpp by `lora_alpha` over each one's own rank.
fn unequal(shapes: &[AdapterShape]) -> Option<String> {
    let first = shapes.first()?;
    let readers = match (
        shapes.iter().any(|shape| shape.scale != first.scale),
        shapes.iter().any(|shape| shape.alpha != first.alpha),
    ) {
        (false, false) => return None,
        (true, false) => "vLLM",
        (false, true) => "llama.cpp",
        (true, true) => "vLLM and llama.cpp",
    };
    Some(format!(
        "with tuning.rank_pattern or tuning.alpha_pattern the adapters have unequal ranks or alphas: PEFT reads them, {readers} would take one for all and compute something else; for these {MERGE}, or give all adapters the same"
    ))
}

fn rank_stabilised(tuner: &LoraTuner<'_>) -> Option<String> {
    let lora = tuner.lora;
    (lora.use_rslora && lora.r > 1).then(|| {
        format!(
            "tuning.use_rslora: PEFT and vLLM read it, llama.cpp does not and would multiply by lora_alpha / r; for it {MERGE}, or train without use_rslora and with lora_alpha {:.4}, which has the same effect",
            lora.lora_alpha * (lora.r as f64).sqrt()
        )
    })
}

fn fractional(tuner: &LoraTuner<'_>) -> Option<String> {
    let alpha = tuner.lora.lora_alpha;
    (alpha.fract() != 0.0).then(|| {
        format!("tuning.lora_alpha is {alpha}: Ollama refuses an alpha that is no whole number; for it {MERGE}, or take a whole one")
    })
}

#[cfg(test)]
mod tests {
    use taper_core::{Lora, TargetModules};

    use super::*;

    const LAYERS: [&str; 2] = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
    ];

    fn told(lora: Lora, task: TaskType) -> Vec<String> {
        let lora = Lora {
            target_modules: Some(TargetModules::Names(vec!["q_proj".to_owned()])),
            ..lora
        };
        let warnings = limits(
            &LoraTuner::new(&lora).unwrap(),
            task,
            &LAYERS.map(str::to_owned),
        );
        assert!(
            warnings
                .iter()
                .all(|it| it.code == WarningCode::ReaderLimits)
        );
        warnings.into_iter().map(|it| it.message).collect()
    }

    fn one(lora: Lora) -> String {
        let mut told = told(lora, TaskType::CausalLm);
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    }

    #[test]
    fn what_every_reader_takes_is_not_warned_of() {
        let largest = Lora {
            r: 16,
            ..Lora::default()
        };
        assert_eq!(told(largest, TaskType::CausalLm), [""; 0]);
    }

    #[test]
    fn each_reason_is_told_once_with_the_reader_and_the_way_out() {
        let whole = one(Lora {
            modules_to_save: Some(vec!["lm_head".to_owned()]),
            ..Lora::default()
        });
        assert!(
            whole.contains("lm_head") && whole.contains("vLLM and llama.cpp refuse"),
            "{whole}"
        );
        let wide = one(Lora {
            r: 17,
            ..Lora::default()
        });
        assert!(
            wide.contains("rank 17") && wide.contains("--max-lora-rank 32,"),
            "{wide}"
        );
        let widest = one(Lora {
            r: 600,
            ..Lora::default()
        });
        assert!(
            widest.contains("rank 600") && widest.contains("merge_and_unload"),
            "{widest}"
        );
        let half = one(Lora {
            lora_alpha: 2.5,
            ..Lora::default()
        });
        assert!(half.contains("2.5: Ollama"), "{half}");
        let stabilised = one(Lora {
            use_rslora: true,
            r: 4,
            ..Lora::default()
        });
        assert!(
            stabilised.contains("llama.cpp does not") && stabilised.contains("lora_alpha 32.0000"),
            "{stabilised}"
        );
    }

    #[test]
    fn unequal_ranks_and_alphas_are_told_to_whom_they_concern() {
        let key = || "layers.1.self_attn.q_proj".to_owned();
        let rank = one(Lora {
            rank_pattern: [(key(), 4)].into(),
            ..Lora::default()
        });
        assert!(
            rank.contains("unequal") && rank.contains("them, vLLM would"),
            "{rank}"
        );
        let alpha = one(Lora {
            alpha_pattern: [(key(), 4.0)].into(),
            ..Lora::default()
        });
        assert!(alpha.contains("vLLM and llama.cpp would"), "{alpha}");
        let same = Lora {
            rank_pattern: [(key(), 16)].into(),
            alpha_pattern: [(key(), 32.0)].into(),
            ..Lora::default()
        };
        assert!(one(same).contains("them, llama.cpp would"));
        let wide = told(
            Lora {
                rank_pattern: [(key(), 64)].into(),
                ..Lora::default()
            },
            TaskType::CausalLm,
        );
        assert_eq!(wide.len(), 2);
        assert!(wide[0].contains("--max-lora-rank 64,"), "{wide:?}");
    }

    #[test]
    fn these_readers_take_no_classifiers() {
        let lora = Lora {
            r: 64,
            lora_alpha: 0.5,
            ..Lora::default()
        };
        assert_eq!(told(lora, TaskType::SeqCls), [""; 0]);
    }
}
