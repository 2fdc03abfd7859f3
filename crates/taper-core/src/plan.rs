use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Warning;

/// What a run will do, known before it starts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    pub training_rows: u64,
    pub validation_rows: u64,
    /// Tokens of one pass over the training rows, special tokens included, padding excluded.
    pub training_tokens: u64,
    pub validation_tokens: u64,
    /// Answers of one pass over the training rows that the loss covers: rows with a class, or tokens.
    pub label_tokens: u64,
    /// Rows that `max_length` cuts.
    pub truncated_rows: u64,
    pub total_steps: u64,
    pub trainable_parameters: u64,
    pub total_parameters: u64,
    /// Class names in the order of their ids; empty without classes.
    pub classes: Vec<String>,
    /// Tokens of the heaviest pass, virtual ones included: the one that the peak of the memory belongs to.
    #[serde(default)]
    pub heaviest_batch_tokens: u64,
    #[serde(default)]
    pub memory: Memory,
    #[serde(default)]
    pub disk: Disk,
    /// Time that the steps and the evaluations will take, about, on a machine that does nothing else.
    #[serde(default)]
    pub estimated_seconds: f64,
    /// What a look at the rows makes one wonder about.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// Bytes that a run takes at its peak, by what takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Memory {
    /// The model and its adapters.
    pub weights: u64,
    /// Gradients of the trained parameters.
    pub gradients: u64,
    /// The optimizer's two moments of each trained parameter.
    pub optimizer: u64,
    /// What the heaviest pass keeps for its way back.
    pub activations: u64,
    /// Scores over the vocabulary and their gradients, as far as they are in memory at a time.
    pub logits: u64,
    /// The program, the data, the tokenizer, and what loading or exporting takes beyond all of these.
    pub overhead: u64,
}

impl Memory {
    /// All parts by name, in the order of their fields.
    pub fn parts(&self) -> [(&'static str, u64); 6] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
            ("overhead", self.overhead),
        ]
    }

    /// Bytes of all parts.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", Bytes(self.total()))?;
        for (i, (name, bytes)) in self.parts().into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {}", Bytes(bytes))?;
        }
        f.write_str(")")
    }
}

/// Bytes on the disk that a run takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// One checkpoint.
    pub checkpoint: u64,
    /// All checkpoints that are there at a time: those kept, the best, and the one being written.
    pub checkpoints: u64,
    /// The result: adapter or model, and the tokenizer's files.
    pub artifacts: u64,
}

/// A number of bytes as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..0x0400 => write!(f, "{} B", self.0),
            0x0400..0x0010_0000 => write!(f, "{:.0} KiB", bytes / 1024.0),
            0x0010_0000..0x4000_0000 => write!(f, "{:.0} MiB", bytes / f64::from(1 << 20)),
            _ => write!(f, "{:.2} GiB", bytes / f64::from(1 << 30)),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = match self.classes.len() {
            0 => format!("{} of them trained", self.label_tokens),
            classes => format!("{classes} classes"),
        };
        write!(
            f,
            "{} training rows ({} tokens), {answers}, {} validation rows, {} steps, {} of {} parameters trained",
            self.training_rows,
            self.training_tokens,
            self.validation_rows,
            self.total_steps,
            self.trainable_parameters,
            self.total_parameters
        )?;
        if self.truncated_rows > 0 {
            write!(f, "; {} rows cut to max_length", self.truncated_rows)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_by_part() {
        let memory = Memory {
            weights: 3 << 30,
            gradients: 5 << 20,
            optimizer: 2048,
            activations: 7,
            ..Memory::default()
        };
        assert_eq!(memory.total(), (3 << 30) + (5 << 20) + 2055);
        assert_eq!(
            memory.to_string(),
            "3.00 GiB (weights 3.00 GiB, gradients 5 MiB, optimizer 2 KiB, activations 7 B, logits 0 B, overhead 0 B)"
        );
    }

    #[test]
    fn a_plan_of_an_older_version_can_be_read() {
        let mut old = serde_json::to_value(Plan::default()).unwrap();
        for field in [
            "memory",
            "disk",
            "estimated_seconds",
            "heaviest_batch_tokens",
            "warnings",
        ] {
            old.as_object_mut().unwrap().remove(field).unwrap();
        }
        assert_eq!(
            serde_json::from_value::<Plan>(old).unwrap(),
            Plan::default()
        );
    }
}
