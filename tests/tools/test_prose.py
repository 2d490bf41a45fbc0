"""The pages that users read keep the limits on sentences."""

from tools import prose


def test_code_tables_and_addresses_do_not_count():
    words = " ".join(["word"] * 30)
    page = f"# {words} x\n\n{words}.\n\n| {words} x |\n\n```\n{words} x\n```\n\n[{words}](a b c d)\n<!-- {words} x -->"
    assert [len(sentence.split()) for sentence in prose.sentences(page)] == [30, 30]
    assert prose.problems(words) == ["a mean of 30.0 words per sentence"]
    assert len(prose.problems(f"{words} more.")) == 2
