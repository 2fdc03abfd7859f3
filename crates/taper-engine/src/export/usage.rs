//! The lines of a model card that load the result.

use serde_json::json;

use super::{Export, base_name::BaseName};
use crate::tasks::Card;

const HERE: &str = "PATH_OF_THIS_FOLDER";

pub(super) fn usage(export: &Export<'_>, base: &BaseName, task: &Card) -> String {
    let adapts = export.run.spec.tuning.method.is_adapter();
    let pad = export.data.pad();
    let (class, note) = (task.auto_class, task.note);
    let tokenizer = if pad.is_some() { ", AutoTokenizer" } else { "" };
    let load = if adapts {
        let mut arguments = task.arguments.clone();
        if let Some(pad) = pad {
            arguments.push_str(&format!(", pad_token_id={pad}"));
        }
        format!(
            "from peft import PeftModel\nfrom transformers import {class}{tokenizer}\n\n\
             base = {class}.from_pretrained(\"{}\"{arguments})\n\
             model = PeftModel.from_pretrained(base, \"{HERE}\")\n",
            base.name
        )
    } else {
        format!(
            "from transformers import {class}{tokenizer}\n\nmodel = {class}.from_pretrained(\"{HERE}\")\n"
        )
    };
    let from = if adapts { &base.name } else { HERE };
    let ask = pad.map_or(String::new(), |pad| batch(export, from, pad));
    let where_from = if adapts { base.note.as_str() } else { "" };
    format!("\n## Use\n\n```python\n{load}{ask}```\n{where_from}{note}")
}

/// How a decoder classifies several texts: it looks for the last token that fills nothing up.
fn batch(export: &Export<'_>, from: &str, pad: u32) -> String {
    let token = export.data.setup.tokenizer.id_to_token(pad);
    let token = json!(token.unwrap_or_default());
    let (texts, call) = (
        r#"["a text", "another, longer text"]"#,
        "return_token_type_ids=False, return_tensors=\"pt\"",
    );
    if export.run.spec.tuning.method.virtual_tokens() > 0 {
        return format!(
            "tokenizer = AutoTokenizer.from_pretrained(\"{from}\")\n\
             # One at a time: behind virtual tokens the model cannot tell what fills a batch up.\n\
             for text in {texts}:\n    print(model(**tokenizer(text, {call})).logits)\n"
        );
    }
    format!(
        "tokenizer = AutoTokenizer.from_pretrained(\"{from}\", pad_token={token}, padding_side=\"right\")\n\
         batch = tokenizer({texts}, padding=True, {call})\n\
         print(model(**batch).logits)\n"
    )
}
