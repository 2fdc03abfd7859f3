"""What the other files have received, held against the whole of OpenAI's document: pytest runs this file last, by its name."""

import published


def test_every_schema_was_put_to_use():
    ends = [f"fine_tuning.job.{end}" for end in ("succeeded", "failed", "cancelled")]
    assert not published.unchecked(*ends)
