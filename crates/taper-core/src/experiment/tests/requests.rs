use super::*;

fn labels(more: Value) -> Vec<String> {
    let (experiment, _) = settled(more);
    experiment
        .configurations
        .into_iter()
        .map(|it| it.label)
        .collect()
}

#[test]
fn all_methods_run_with_their_usual_rates() {
    let (experiment, jobs) = settled(json!({"methods": "all", "seeds": [3, 1]}));
    let labels: Vec<_> = experiment
        .configurations
        .iter()
        .map(|it| it.label.as_str())
        .collect();
    assert_eq!(
        labels,
        [
            "full",
            "layerwise",
            "LoRA r=8",
            "prompt tuning of 10 tokens"
        ]
    );
    let training = |index: usize| Value::Object(experiment.configurations[index].training.clone());
    assert_eq!(training(0), json!({"learning_rate": 5e-5}));
    assert_eq!(training(2), json!({"learning_rate": 1e-3}));
    let order: Vec<_> = jobs
        .iter()
        .map(|(index, spec)| (*index, spec.training.seed))
        .collect();
    assert_eq!(order[..4], [(0, 3), (0, 1), (1, 3), (1, 1)]);
    assert_eq!(experiment.objective.metric, "valid_accuracy");
    let stored = serde_json::to_string(&experiment).unwrap();
    assert_eq!(
        serde_json::from_str::<Experiment>(&stored).unwrap(),
        experiment
    );
}

#[test]
fn a_path_applies_to_the_methods_that_have_the_field() {
    let labels = labels(json!({
        "methods": [{"type": "full"}, {"type": "lora", "lora_alpha": 8}],
        "grid": {"tuning.r": [2, 4], "training.learning_rate": [1e-4, 3e-4]},
    }));
    assert_eq!(
        labels,
        [
            "full learning_rate=0.0001",
            "full learning_rate=0.0003",
            "LoRA r=2 learning_rate=0.0001",
            "LoRA r=2 learning_rate=0.0003",
            "LoRA r=4 learning_rate=0.0001",
            "LoRA r=4 learning_rate=0.0003",
        ]
    );
}

#[test]
fn the_base_body_holds_where_nothing_varies() {
    let (experiment, jobs) = settled(json!({
        "tuning": {"type": "lora", "lora_alpha": 32}, "grid": {"tuning.r": [2, 4]},
        "training": {"num_train_epochs": 2, "seed": 7}, "objective": {"metric": "eval_loss"},
    }));
    for (_, spec) in &jobs {
        assert_eq!(
            (spec.training.num_train_epochs, spec.training.seed),
            (2.0, 7)
        );
        assert!(
            matches!(&spec.tuning.method, crate::Method::Lora(lora) if lora.lora_alpha == 32.0)
        );
    }
    let objective = Objective {
        metric: "valid_loss".to_owned(),
        direction: Direction::Min,
    };
    assert_eq!(
        (experiment.objective, experiment.seeds),
        (objective, vec![7])
    );
}

#[test]
fn draws_are_the_same_each_time_and_fit_their_fields() {
    let more = json!({"random": {
        "n": 20, "tuning.r": {"linear": [2, 9]}, "training.learning_rate": {"log": [1e-5, 1e-3]},
        "training.weight_decay": {"choice": [0, 0.1]},
    }});
    let (first, again) = (settled(more.clone()), settled(more));
    assert_eq!(first, again);
    assert_eq!(first.1.len(), 20);
    let mut ranks = std::collections::BTreeSet::new();
    let mut low = 0;
    for (_, spec) in &first.1 {
        let crate::Method::Lora(lora) = &spec.tuning.method else {
            panic!("{spec:?}")
        };
        ranks.insert(lora.r);
        let rate = spec.training.learning_rate.unwrap();
        assert!((1e-5..=1e-3).contains(&rate), "{rate}");
        assert!(
            rate.to_string().trim_start_matches(['0', '.']).len() <= 3,
            "{rate}"
        );
        low += u32::from(rate < 1e-4);
    }
    assert!(
        ranks.len() > 3 && ranks.iter().all(|r| (2..=9).contains(r)),
        "{ranks:?}"
    );
    // Half of a logarithmic range lies below its geometric mean.
    assert!((5..=15).contains(&low), "{low}");
}

#[test]
fn a_default_that_is_spelt_out_makes_no_second_configuration() {
    let methods =
        json!([{"type": "lora"}, {"type": "lora", "target_modules": ["query"]}, {"type": "full"}]);
    let (experiment, jobs) = settled(json!({"methods": methods, "seeds": [1, 2]}));
    assert_eq!(labels(json!({"methods": methods})), ["LoRA r=8", "full"]);
    assert_eq!((experiment.configurations.len(), jobs.len()), (2, 4));
    assert_eq!(jobs[3].0, 1);
}

#[test]
fn a_budget_cuts_what_is_longer() {
    let plan = Plan {
        training_rows: 160,
        training_tokens: 1600,
        total_steps: 30,
        estimated_seconds: 60.0,
        ..Plan::default()
    };
    let training = Training::default();
    for (budget, steps) in [
        (Budget::MaxSteps(12), Some(12)),
        (Budget::MaxSteps(30), None),
        // 160 tokens a step.
        (Budget::MaxTokens(1700), Some(10)),
        (Budget::MaxTokens(1), Some(1)),
        (Budget::MaxTokens(1_000_000), None),
        // 2 seconds a step.
        (Budget::MaxMinutes(0.5), Some(15)),
        (Budget::MaxMinutes(2.0), None),
    ] {
        assert_eq!(budget.steps(&plan, &training), steps, "{budget:?}");
    }
    assert_eq!(
        Budget::MaxMinutes(1.0).steps(&Plan::default(), &training),
        None
    );
}
