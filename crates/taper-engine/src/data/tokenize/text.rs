use super::{Content, Encoded, Job, Targets, tokens};
use crate::Result;

/// Plain texts, each with the end token, one after the other and cut into blocks of `max_length` tokens; what does not fill a block is dropped.
pub(super) fn encode(job: &Job<'_>) -> Result<Encoded> {
    let eos = job.setup.end_token()?;
    let rows = job.each(|row| match &row.content {
        Content::Text(text) => Ok((
            row.line,
            tokens(&job.setup.tokenizer, text, true)?.get_ids().to_vec(),
        )),
        Content::Labelled { .. } | Content::Completion { .. } | Content::Chat { .. } => {
            Err("is not a plain text".to_owned())
        }
    })?;
    let (mut ids, mut lines, mut block) = (Vec::new(), Vec::new(), Vec::new());
    for (line, row) in rows {
        // One end token each, also where the tokenizer writes it itself.
        let end = (row.last() != Some(&eos)).then_some(eos);
        for id in row.into_iter().chain(end) {
            if block.is_empty() {
                lines.push(line);
            }
            block.push(id);
            if block.len() == job.max_length {
                ids.push(std::mem::take(&mut block));
            }
        }
    }
    lines.truncate(ids.len());
    if ids.is_empty() || job.max_length < 2 {
        let message = format!(
            "has only {} tokens, which do not fill one block of {}; add text, or set training.max_length to at most {}",
            block.len(),
            job.max_length,
            block.len().max(2)
        );
        return Err(job.source.part.refuse(message).into());
    }
    Ok(Encoded {
        targets: Targets::Tokens(ids.iter().map(|block| vec![true; block.len()]).collect()),
        ids,
        lines,
        truncated: 0,
        virtual_tokens: 0,
    })
}
