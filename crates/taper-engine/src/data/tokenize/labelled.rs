use super::{Classes, Content, Encoded, Job, Targets, cutting, tokens};
use crate::Result;

/// Texts with a class.
pub(super) fn encode(job: &Job<'_>, classes: &Classes) -> Result<Encoded> {
    let labels = classes.ids(job.source.rows, job.source.part)?;
    let tokenizer = cutting(&job.setup.tokenizer, job.max_length)?;
    let rows = job.each(|row| match &row.content {
        Content::Labelled { text, .. } => tokens(&tokenizer, text, true).and_then(|encoding| {
            if encoding.get_ids().is_empty() {
                return Err(
                    "has a 'text' of which the tokenizer makes no token; remove the row".to_owned(),
                );
            }
            // What else an encoding holds is many times its ids.
            Ok((
                encoding.get_ids().to_vec(),
                !encoding.get_overflowing().is_empty(),
            ))
        }),
        Content::Completion { .. } | Content::Chat { .. } | Content::Text(_) => {
            Err("has no label".to_owned())
        }
    })?;
    Ok(Encoded {
        truncated: rows.iter().filter(|(_, cut)| *cut).count() as u64,
        ids: rows.into_iter().map(|(ids, _)| ids).collect(),
        targets: Targets::Classes(labels),
        virtual_tokens: 0,
        lines: job.source.rows.iter().map(|row| row.line).collect(),
    })
}
