use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad_input_is_told_by_field() {
    let hundred: Vec<f64> = (1..=100).map(|i| f64::from(i) * 1e-5).collect();
    for (more, param, message) in [
        (json!({}), "methods", "there is nothing to compare"),
        (
            json!({"seeds": [1, 2]}),
            "methods",
            "there is nothing to compare",
        ),
        (
            json!({"methods": "some"}),
            "methods",
            "must be \"all\" or a list",
        ),
        (
            json!({"methods": []}),
            "methods",
            "must be \"all\" or a list",
        ),
        (
            json!({"methods": [3]}),
            "methods.0",
            "must be an object like 'tuning'",
        ),
        (
            json!({"methods": [{"type": "lora", "r": 0}]}),
            "methods.0.r",
            "'methods.0.r' must be a whole number from 1 to 4096, not 0",
        ),
        (
            json!({"methods": [{"type": "full"}, {"type": "dora"}]}),
            "methods.1.type",
            "not \"dora\"",
        ),
        (
            json!({"methods": [{"type": "full", "r": 4}]}),
            "methods.0.r",
            "unknown parameter",
        ),
        (
            json!({"methods": "all", "tuning": {"type": "full"}}),
            "methods",
            "takes the place of 'tuning'",
        ),
        (json!({"grid": 3}), "grid", "must be an object"),
        (
            json!({"grid": {"training.learning_rate": 1e-4}}),
            "grid.training.learning_rate",
            "must be a list of 1 to 1000 values, not 0.0001",
        ),
        (
            json!({"grid": {"training.learning_rate": []}}),
            "grid.training.learning_rate",
            "must be a list",
        ),
        (
            json!({"grid": {"training.learning_rate": [1e-4, -1]}}),
            "grid.training.learning_rate",
            "greater than 0 and at most 10, not -1",
        ),
        (
            json!({"grid": {"training.learning_rate": [1e-4, 1e-4]}}),
            "grid.training.learning_rate",
            "lists 0.0001 twice",
        ),
        (
            json!({"grid": {"training.learnig_rate": [1e-4]}}),
            "grid.training.learnig_rate",
            "unknown parameter: 'grid.training.learnig_rate'; did you mean 'grid.training.learning_rate'?",
        ),
        (
            json!({"grid": {"tuning.rank": [1]}}),
            "grid.tuning.rank",
            "unknown parameter: 'grid.tuning.rank'",
        ),
        (
            json!({"methods": [{"type": "full"}], "grid": {"tuning.r": [1]}}),
            "grid.tuning.r",
            "unknown parameter",
        ),
        (
            json!({"grid": {"model": ["a"]}}),
            "grid.model",
            "paths begin with 'tuning.' or 'training.'",
        ),
        (
            json!({"grid": {"training.seed": [1]}}),
            "grid.training.seed",
            "'seeds'",
        ),
        (
            json!({"grid": {"tuning.type": ["full"]}}),
            "grid.tuning.type",
            "'methods'",
        ),
        (
            json!({"grid": {"tuning.r": [1]}, "random": {"n": 2, "tuning.r": {"linear": [1, 4]}}}),
            "random.tuning.r",
            "is in 'grid' as well",
        ),
        (json!({"random": {"n": 2}}), "random.n", "nothing is drawn"),
        (
            json!({"random": {"training.weight_decay": {"linear": [0, 0.1]}}}),
            "random.n",
            "missing required parameter",
        ),
        (
            json!({"random": {"n": 2, "training.weight_decay": {"linear": [1, 0]}}}),
            "random.training.weight_decay",
            "{\"linear\": [LOW, HIGH]}",
        ),
        (
            json!({"random": {"n": 2, "training.weight_decay": {"log": [0, 1]}}}),
            "random.training.weight_decay",
            "with LOW above 0",
        ),
        (
            json!({"random": {"n": 2, "training.weight_decay": {"linear": [2, 3]}}}),
            "random.training.weight_decay",
            "from 0 to 1",
        ),
        (
            json!({"grid": {"training.learning_rate": hundred, "tuning.lora_alpha": hundred}}),
            "grid",
            "10000 configurations with 1 seeds each are 10000, and an experiment has at most 200",
        ),
        (
            json!({"random": {"n": 201, "training.weight_decay": {"linear": [0, 1]}}}),
            "random.n",
            "are 201",
        ),
        (
            json!({"methods": "all", "seeds": (0..51).collect::<Vec<_>>()}),
            "seeds",
            "4 configurations with 51 seeds each are 204",
        ),
        (
            json!({"methods": "all", "seeds": [1, 2, 1]}),
            "seeds",
            "lists 1 twice",
        ),
        (
            json!({"methods": "all", "seeds": []}),
            "seeds",
            "must be a list",
        ),
        (
            json!({"methods": "all", "seeds": [-1]}),
            "seeds",
            "must be a list",
        ),
        (
            json!({"methods": "all", "seeds": [1], "seed": 1}),
            "seeds",
            "takes the place of",
        ),
        (
            json!({"methods": "all", "strategy": "hyperband"}),
            "strategy.type",
            "not \"hyperband\"",
        ),
        (
            json!({"methods": "all", "strategy": {"type": "asha", "reduction": 1}}),
            "strategy.reduction",
            "from 2 to 10",
        ),
        (
            json!({"methods": "all", "strategy": {"type": "asha", "reduction": 5}}),
            "strategy.reduction",
            "only 4 configurations",
        ),
        (
            json!({"methods": "all", "strategy": {"type": "all", "reduction": 3}}),
            "strategy.reduction",
            "unknown parameter",
        ),
        (
            json!({"methods": "all", "strategy": "asha", "validation_file": null}),
            "strategy.type",
            "asha stops runs by what they reach on validation data",
        ),
        (
            json!({"methods": "all", "budget": {}}),
            "budget",
            "takes one of",
        ),
        (
            json!({"methods": "all", "budget": {"max_steps": 4, "max_tokens": 4}}),
            "budget",
            "takes one of",
        ),
        (
            json!({"methods": "all", "budget": {"max_steps": 0}}),
            "budget.max_steps",
            "from 1 to",
        ),
        (
            json!({"methods": "all", "objective": {"metric": "f2"}}),
            "objective.metric",
            "not \"f2\"",
        ),
        (
            json!({"methods": "all", "objective": {"direction": "up"}}),
            "objective.direction",
            "\"max\" or \"min\"",
        ),
        (
            json!({"methods": "all", "objective": {"metric": "valid_loss"}, "validation_file": null}),
            "objective.metric",
            "needs validation data",
        ),
        (
            json!({"methods": "all", "model": null}),
            "model",
            "missing required parameter",
        ),
        (
            json!({"methods": "all", "training": {"learning_rate": -1}}),
            "training.learning_rate",
            "greater than 0",
        ),
        (
            json!({"methods": "all", "stratgy": "asha"}),
            "stratgy",
            "did you mean 'strategy'?",
        ),
    ] {
        let error = ExperimentRequest::parse(&with(more.clone())).unwrap_err();
        let first = error.first();
        assert_eq!(first.param, param, "{more}: {error}");
        assert!(first.message.contains(message), "{more}: {error}");
    }
    assert_eq!(
        ExperimentRequest::parse(&json!([]))
            .unwrap_err()
            .first()
            .param,
        ""
    );
}

/// What one body says may stand in 200 configurations.
#[test]
fn what_is_long_is_refused() {
    let long = "x".repeat(201);
    let tuned = |field: &str, value: Value| json!({"tuning": {"type": "lora", field: value}, "grid": {"tuning.r": [1, 2]}});
    let many: serde_json::Map<String, Value> = (0..51)
        .map(|i| (format!("training.a{i}"), json!([1])))
        .collect();
    let layerwise = json!({"tuning": {"type": "layerwise", "learning_rates": {&long: 0.1}}, "grid": {"tuning.layer_decay": [0.5]}});
    let text = json!({"type": "prompt_tuning", "prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "x".repeat(10_001)});
    let text = json!({"tuning": text, "grid": {"tuning.num_virtual_tokens": [4]}});
    let names = "at most 200 bytes";
    for (more, param, message) in [
        (
            tuned("layers_to_transform", json!(vec![0; 1001])),
            "tuning.layers_to_transform",
            "a list of 1 to 1000 such numbers",
        ),
        (
            tuned("target_modules", json!([&long])),
            "tuning.target_modules",
            names,
        ),
        (
            tuned("modules_to_save", json!([&long])),
            "tuning.modules_to_save",
            names,
        ),
        (
            tuned("rank_pattern", json!({&long: 4})),
            "tuning.rank_pattern",
            names,
        ),
        (
            tuned("alpha_pattern", json!({&long: 4})),
            "tuning.alpha_pattern",
            names,
        ),
        (layerwise, "tuning.learning_rates", names),
        (
            text,
            "tuning.prompt_tuning_init_text",
            "at most 10000 bytes",
        ),
        (
            json!({"grid": many}),
            "grid",
            "there are 51 paths in 'grid' and 'random', and an experiment has at most 50",
        ),
    ] {
        let error = ExperimentRequest::parse(&with(more)).unwrap_err();
        let first = error.first();
        assert_eq!(first.param, param, "{error}");
        assert!(first.message.contains(message), "{error}");
    }
    let mut unknown = with(json!({"methods": "all"}));
    let fields = unknown.as_object_mut().unwrap();
    fields.extend((0..500).map(|i| (format!("x{i}"), json!(1))));
    let error = ExperimentRequest::parse(&unknown).unwrap_err();
    assert_eq!(error.findings().len(), 100);
}

#[test]
fn what_the_model_refuses_is_told_by_field() {
    let body = with(
        json!({"methods": [{"type": "full"}, {"type": "lora", "target_modules": ["x"]}], "grid": {"training.max_length": [8, 999]}}),
    );
    let request = ExperimentRequest::parse(&body).unwrap();
    let error =
        |param: &str| SpecError::from(FieldError::invalid(param, format!("'{param}' is wrong")));
    let told = |configuration, param: &str| {
        let error = request.localized(configuration, &error(param));
        (error.first().param.clone(), error.first().message.clone())
    };
    let named = |param: &str| (param.to_owned(), format!("'{param}' is wrong"));
    assert_eq!(
        told(2, "tuning.target_modules"),
        named("methods.1.target_modules")
    );
    assert_eq!(
        told(3, "training.max_length"),
        named("grid.training.max_length")
    );
    assert_eq!(told(3, "training_file"), named("training_file"));
}

#[test]
fn asha_needs_configurations_that_differ() {
    let more = json!({"methods": [{"type": "lora"}, {"type": "lora", "task_type": "SEQ_CLS"}], "strategy": {"type": "asha", "reduction": 2}});
    let request = ExperimentRequest::parse(&with(more)).unwrap();
    let mut specs: Vec<_> = request.specs().cloned().collect();
    specs[0].tuning.task_type = Some(TaskType::SeqCls);
    let error = request.settle(specs).unwrap_err();
    assert_eq!(error.first().param, "strategy.reduction");
    assert!(
        error.to_string().contains("only 1 configurations"),
        "{error}"
    );
}

#[test]
fn an_objective_must_measure_the_task() {
    let request = ExperimentRequest::parse(&with(
        json!({"methods": "all", "objective": {"metric": "valid_perplexity"}}),
    ));
    let request = request.unwrap();
    let mut specs: Vec<_> = request.specs().cloned().collect();
    specs[0].tuning.task_type = Some(TaskType::SeqCls);
    let error = request.settle(specs).unwrap_err();
    assert_eq!(error.first().param, "objective.metric");
    assert!(
        error
            .to_string()
            .contains("SEQ_CLS is measured by valid_loss, valid_accuracy, valid_macro_f1")
    );
}
