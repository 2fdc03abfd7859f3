//! Each operation on a tape: its gradients on the CPU against the reference's and against finite differences, and what is frozen.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use taper_kernels::Layout;

use super::{numbers, random, values};
use crate::{
    Backend, Cpu, Gradients, Param, Reference, Tape, Value, assign,
    ops::{self, Activation, Adapter, Dropout, Heads, Linear, Norm, RopeAngles},
};

const ROWS: usize = 11;
const WIDTH: usize = 10;

/// An operation on some parameters of these shapes.
pub(super) struct Operation {
    pub(super) name: &'static str,
    shapes: &'static [&'static [usize]],
    apply: fn(&Tape, &[Param]) -> Result<Value>,
}

const X: &[usize] = &[ROWS, WIDTH];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "linear",
        shapes: &[X, &[7, WIDTH], &[7]],
        apply: |tape, p| {
            let layer = layer(&p[1], Some(&p[2]), Layout::OutIn, None);
            ops::linear(tape, &value(tape, &p[0])?, &layer, Dropout::OFF)
        },
    },
    Operation {
        name: "linear of GPT-2",
        shapes: &[X, &[WIDTH, 7]],
        apply: |tape, p| {
            let layer = layer(&p[1], None, Layout::InOut, None);
            ops::linear(tape, &value(tape, &p[0])?, &layer, Dropout::OFF)
        },
    },
    Operation {
        name: "LoRA",
        shapes: &[X, &[3, WIDTH], &[7, 3]],
        apply: |tape, p| lora(tape, p, Dropout::OFF),
    },
    Operation {
        name: "LoRA with dropout",
        shapes: &[X, &[3, WIDTH], &[7, 3]],
        apply: |tape, p| lora(tape, p, dropped()),
    },
    Operation {
        name: "attention",
        shapes: &[&[ROWS, 12], &[ROWS, 6], &[ROWS, 6]],
        apply: |tape, p| {
            let heads = Heads {
                count: 4,
                key_values: 2,
                dim: 3,
                causal: true,
                window: Some(4),
                dropout: dropped(),
            };
            let [q, k, v] = [
                value(tape, &p[0])?,
                value(tape, &p[1])?,
                value(tape, &p[2])?,
            ];
            ops::attention(tape, [q, k, v], &[0, 4, ROWS], heads)
        },
    },
    Operation {
        name: "layer norm",
        shapes: &[X, &[WIDTH], &[WIDTH]],
        apply: |tape, p| ops::norm(tape, &value(tape, &p[0])?, &norm(&p[1], Some(&p[2]))),
    },
    Operation {
        name: "RMS norm of pieces",
        shapes: &[X, &[WIDTH / 2]],
        apply: |tape, p| ops::norm(tape, &value(tape, &p[0])?, &norm(&p[1], None)),
    },
    Operation {
        name: "add_layer_norm",
        shapes: &[X, X, &[WIDTH], &[WIDTH]],
        apply: |tape, p| {
            let (branch, residual) = (value(tape, &p[0])?, value(tape, &p[1])?);
            let norm = norm(&p[2], Some(&p[3]));
            ops::add_layer_norm(tape, branch, dropped(), residual, &norm)
        },
    },
    Operation {
        name: "add",
        shapes: &[X, X],
        apply: |tape, p| {
            let (residual, branch) = (value(tape, &p[0])?, value(tape, &p[1])?);
            ops::add(tape, residual, branch, dropped())
        },
    },
    Operation {
        name: "the same value twice",
        shapes: &[X],
        apply: |tape, p| {
            let x = value(tape, &p[0])?;
            let tanh = ops::activation(tape, x.clone(), Activation::Tanh)?;
            let sum = ops::add(
                tape,
                x,
                ops::dropout(tape, tanh.clone(), dropped())?,
                Dropout::OFF,
            )?;
            ops::silu_mul(tape, sum, tanh)
        },
    },
    Operation {
        name: "recomputed inputs of trained layers",
        shapes: &[X, &[WIDTH], &[3, WIDTH], &[7, 3], &[5, 7]],
        apply: |tape, p| {
            let normed = ops::norm(tape, &value(tape, &p[0])?, &norm(&p[1], None))?;
            let low = lora_of(tape, &normed, &p[2], &p[3], dropped())?;
            let wide = ops::activation(tape, low, Activation::Gelu)?;
            ops::linear(
                tape,
                &wide,
                &layer(&p[4], None, Layout::OutIn, None),
                Dropout::OFF,
            )
        },
    },
    Operation {
        name: "activation",
        shapes: &[X],
        apply: |tape, p| ops::activation(tape, value(tape, &p[0])?, Activation::GeluTanh),
    },
    Operation {
        name: "silu_mul",
        shapes: &[X, X],
        apply: |tape, p| ops::silu_mul(tape, value(tape, &p[0])?, value(tape, &p[1])?),
    },
    Operation {
        name: "rope",
        shapes: &[X],
        apply: |tape, p| {
            let angles = RopeAngles::new(&[0.9], 17, &Device::Cpu)?;
            ops::rope(
                tape,
                value(tape, &p[0])?,
                &Arc::new(angles),
                &numbers(ROWS, 17),
            )
        },
    },
    Operation {
        name: "add_embedding",
        shapes: &[X, &[5, WIDTH]],
        apply: |tape, p| ops::add_embedding(tape, value(tape, &p[0])?, &p[1], numbers(ROWS, 5)),
    },
    Operation {
        name: "prepend",
        shapes: &[X, &[2, WIDTH]],
        apply: |tape, p| ops::prepend(tape, &value(tape, &p[0])?, &p[1], &[0, 4, ROWS]),
    },
    Operation {
        name: "select_rows",
        shapes: &[X],
        apply: |tape, p| ops::select_rows(tape, &value(tape, &p[0])?, vec![7, 2, 10]),
    },
    Operation {
        name: "split_columns",
        shapes: &[X],
        apply: |tape, p| {
            let [left, right] = ops::split_columns(tape, &value(tape, &p[0])?)?;
            ops::silu_mul(tape, left, right)
        },
    },
    Operation {
        name: "dropout",
        shapes: &[X],
        apply: |tape, p| ops::dropout(tape, value(tape, &p[0])?, dropped()),
    },
    Operation {
        name: "lm_loss",
        shapes: &[X, &[23, WIDTH]],
        apply: |tape, p| {
            let (states, next) = (value(tape, &p[0])?, numbers(ROWS, 23));
            Ok(ops::lm_loss(tape, &states, &p[1], &next, 2 * ROWS)?.loss)
        },
    },
];

fn dropped() -> Dropout {
    Dropout::new(0.3, 5)
}

fn layer(weight: &Param, bias: Option<&Param>, layout: Layout, adapter: Option<Adapter>) -> Linear {
    Linear {
        weight: weight.clone(),
        layout,
        bias: bias.cloned(),
        adapter,
    }
}

fn lora(tape: &Tape, p: &[Param], dropout: Dropout) -> Result<Value> {
    lora_of(tape, &value(tape, &p[0])?, &p[1], &p[2], dropout)
}

/// A frozen layer in bf16 with an adapter.
fn lora_of(tape: &Tape, x: &Value, a: &Param, b: &Param, dropout: Dropout) -> Result<Value> {
    let weight = random(90, (7, WIDTH)).to_dtype(DType::BF16)?;
    let adapter = Adapter {
        a: a.clone(),
        b: b.clone(),
        scale: 1.5,
        dropout: 0.3,
    };
    let layer = layer(&Param::frozen(weight), None, Layout::OutIn, Some(adapter));
    ops::linear(tape, x, &layer, dropout)
}

fn norm(gamma: &Param, beta: Option<&Param>) -> Norm {
    Norm {
        gamma: gamma.clone(),
        beta: beta.cloned(),
        eps: 1e-5,
    }
}

/// A parameter as an intermediate result.
fn value(tape: &Tape, param: &Param) -> Result<Value> {
    let rows = param.tensor.dims2()?.0 as u32;
    ops::embedding(tape, param, (0..rows).collect())
}

/// A single number of a result: a loss is one, of others the cross-entropy of a frozen classifier.
fn loss(tape: &Tape, y: Value) -> Result<Value> {
    if y.tensor.rank() == 0 {
        return Ok(y);
    }
    let (rows, width) = y.tensor.dims2()?;
    let classifier = Param::frozen(random(91, (3, width)));
    let classifier = layer(&classifier, None, Layout::OutIn, None);
    let logits = ops::linear(tape, &y, &classifier, Dropout::OFF)?;
    ops::cross_entropy(tape, &logits, &numbers(rows, 3), rows)
}

impl Operation {
    pub(super) fn parameters(&self) -> Vec<Param> {
        let param = |(id, shape): (usize, &&[usize])| Param {
            tensor: random(id as u64 + 1, *shape),
            id: Some(id),
        };
        self.shapes.iter().enumerate().map(param).collect()
    }

    /// The loss, and the gradients of those parameters that are active.
    pub(super) fn gradients(
        &self,
        backend: Arc<dyn Backend>,
        parameters: &[Param],
        active: Option<Vec<bool>>,
    ) -> (f64, Vec<Option<Tensor>>) {
        let tape = Tape::recording(backend, active);
        let loss = loss(&tape, (self.apply)(&tape, parameters).unwrap()).unwrap();
        let value = f64::from(loss.tensor.to_scalar::<f32>().unwrap());
        let shapes = parameters.iter().map(|p| p.tensor.shape().clone());
        let mut gradients = Gradients::new(shapes);
        tape.backward(&loss, &mut gradients).unwrap();
        let of = |id| gradients.get(id).cloned();
        (value, (0..parameters.len()).map(of).collect())
    }
}

#[test]
fn gradients_on_the_cpu_equal_the_references() {
    for operation in OPERATIONS {
        let (name, parameters) = (operation.name, operation.parameters());
        let (loss, found) = operation.gradients(Arc::new(Cpu), &parameters, None);
        let reference = Arc::new(Reference::new(&Device::Cpu));
        let (expected_loss, expected) = operation.gradients(reference, &parameters, None);
        assert!(
            (loss - expected_loss).abs() < 1e-5,
            "{name}: loss {loss}, {expected_loss}"
        );
        for (id, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = super::difference(found.as_ref().unwrap(), expected.as_ref().unwrap());
            assert!(
                difference < 1e-5,
                "{name}: parameter {id} differs by {difference}"
            );
        }
    }
}

/// Central differences of each parameter along a random direction.
#[test]
fn gradients_predict_how_the_loss_moves() {
    const STEP: f32 = 1e-2;
    for operation in OPERATIONS {
        let (name, parameters) = (operation.name, operation.parameters());
        let (_, gradients) = operation.gradients(Arc::new(Cpu), &parameters, None);
        for (id, gradient) in gradients.iter().enumerate() {
            let gradient = values(gradient.as_ref().unwrap());
            let start = values(&parameters[id].tensor);
            let direction = values(&random(id as u64 + 40, parameters[id].tensor.shape()));
            let slope: f64 = gradient
                .iter()
                .zip(&direction)
                .map(|(g, d)| f64::from(g * d))
                .sum();
            let loss_at = |step: f32| {
                let moved = start.iter().zip(&direction).map(|(v, d)| v + step * d);
                assign(&parameters[id].tensor, moved.collect()).unwrap();
                operation.gradients(Arc::new(Cpu), &parameters, None).0
            };
            let measured = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * f64::from(STEP));
            assign(&parameters[id].tensor, start.clone()).unwrap();
            assert!(
                (measured - slope).abs() < 0.01 * slope.abs().max(0.05),
                "{name}: parameter {id}: measured {measured}, predicted {slope}"
            );
        }
    }
}

/// Gradients do not depend on what else is trained, and what is frozen gets none.
#[test]
fn each_parameter_alone_gets_the_same_gradient() {
    for operation in OPERATIONS {
        let (name, parameters) = (operation.name, operation.parameters());
        let (_, all) = operation.gradients(Arc::new(Cpu), &parameters, None);
        for (id, trained) in all.iter().enumerate() {
            let active = (0..parameters.len()).map(|other| other == id).collect();
            let (_, alone) = operation.gradients(Arc::new(Cpu), &parameters, Some(active));
            for (other, found) in alone.iter().enumerate() {
                match found {
                    None => assert_ne!(other, id, "{name}: parameter {id} gets no gradient"),
                    Some(found) => {
                        assert_eq!(other, id, "{name}: parameter {other} is frozen");
                        assert_eq!(values(found), values(trained.as_ref().unwrap()), "{name}");
                    }
                }
            }
        }
    }
}

/// Two passes into the same gradients give the sum.
#[test]
fn gradients_of_several_passes_add_up() {
    let operation = &OPERATIONS[0];
    let parameters = operation.parameters();
    let (_, once) = operation.gradients(Arc::new(Cpu), &parameters, None);
    let mut gradients = Gradients::new(parameters.iter().map(|p| p.tensor.shape().clone()));
    for _ in 0..2 {
        let tape = Tape::recording(Arc::new(Cpu), None);
        let loss = loss(&tape, (operation.apply)(&tape, &parameters).unwrap()).unwrap();
        tape.backward(&loss, &mut gradients).unwrap();
    }
    for (id, once) in once.iter().enumerate() {
        let once = once.as_ref().unwrap();
        let twice = (once * 2.0).unwrap();
        assert!(super::difference(gradients.get(id).unwrap(), &twice) < 1e-6);
    }
    let squares = gradients.sums_of_squares(&Cpu).unwrap();
    let expected = once[1].as_ref().unwrap().sqr().unwrap().sum_all().unwrap();
    let expected = 4.0 * f64::from(expected.to_scalar::<f32>().unwrap());
    assert!((squares[1] - expected).abs() < 1e-4 * expected);
}

#[test]
fn a_tape_that_does_not_record_gives_the_same_results() {
    for operation in OPERATIONS {
        let parameters = operation.parameters();
        let (expected, _) = operation.gradients(Arc::new(Cpu), &parameters, None);
        let tape = Tape::idle(Arc::new(Cpu));
        let value = loss(&tape, (operation.apply)(&tape, &parameters).unwrap()).unwrap();
        assert!(!value.needs_gradient());
        let found = f64::from(value.tensor.to_scalar::<f32>().unwrap());
        assert!((found - expected).abs() < 1e-6, "{}", operation.name);
    }
}
