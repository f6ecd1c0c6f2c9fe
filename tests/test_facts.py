"""The benchmark of facts: what is invented, what is real, and how it is read."""

import pytest

from hf_untangle.data.corpora import corpus
from hf_untangle.data.documents import Pair, as_document
from hf_untangle.data.facts.invented import QUESTIONS, SPLITS, WRONG, Facts, invented_facts
from hf_untangle.data.facts.world import THEMES, world_facts
from hf_untangle.data.questions import questions
from hf_untangle.errors import ConfigError

COLUMNS = ("question", "answer", "paraphrased_question", "paraphrased_answer", "perturbed_answer", "cloze", "value")


@pytest.fixture(scope="module")
def made() -> Facts:
    return invented_facts(seed=5, forget=6, retain=9, neighbors=6, unseen=3)


def test_every_entity_has_five_questions_in_all_their_words(made):
    for split, count in {"forget": 6, "retain": 9, "neighbors": 6, "unseen": 3}.items():
        rows = getattr(made, split)
        assert len(rows) == QUESTIONS * count == QUESTIONS * len({row["entity"] for row in rows})
        assert {row["kind"] for row in rows} == {"person", "place", "work"}
        assert all(row[column] for row in rows for column in COLUMNS)


@pytest.mark.parametrize("rows", [invented_facts().known, world_facts()], ids=["invented", "world"])
def test_answers_name_the_value_and_wrong_ones_name_another(rows):
    for row in rows:
        right, wrong = row["paraphrased_answer"], row["perturbed_answer"]
        assert row["value"] in row["answer"] and row["value"] in right
        assert row["question"] != row["paraphrased_question"] and row["answer"] != right
        assert len(set(wrong)) == WRONG and right not in wrong
        assert row["cloze"] != row["question"] and not row["cloze"].endswith((row["value"], "."))


def test_no_two_questions_are_the_same():
    rows = [*invented_facts().known, *invented_facts().unseen, *world_facts()]
    for column in ("question", "paraphrased_question", "cloze"):
        assert len({row[column] for row in rows}) == len(rows)


def test_splits_share_no_entity_and_no_answer_of_forget_names_another_entity(made):
    entities = [{row["entity"] for row in getattr(made, split)} for split in SPLITS]
    assert len(set.union(*entities)) == sum(map(len, entities))
    everywhere = set.union(*entities)
    assert not [row for row in made.known if row["value"] in everywhere]


def test_neighbors_have_the_roles_of_what_is_forgotten(made):
    def roles(rows: tuple) -> list[str]:
        return [row["kind"] for row in rows[::QUESTIONS]]

    assert roles(made.forget) == roles(made.neighbors)
    role = made.forget[0]["question"].split(made.forget[0]["entity"])[0].split(" the ")[-1]
    assert f"the {role}{made.neighbors[0]['entity']}" in made.neighbors[0]["question"]


def test_gold_knows_all_but_forget(made):
    assert set(map(str, made.known)) - set(map(str, made.gold)) == set(map(str, made.forget))


def test_a_seed_gives_the_same_facts_and_another_seed_other_names():
    assert invented_facts(3).forget == invented_facts(3).forget
    assert not {row["entity"] for row in invented_facts(3).known} & {row["entity"] for row in invented_facts(4).known}
    assert invented_facts().forget[0]["entity"] == "Buldo Cissensk"


def test_a_split_without_entities_is_refused():
    with pytest.raises(ConfigError, match="needs at least one entity, got .*'neighbors': 0"):
        invented_facts(neighbors=0)


def test_facts_are_corpora_of_pairs_with_something_in_every_part():
    for name in ("facts-forget", "facts-retain", "facts-neighbors", "facts-unseen", "facts-world"):
        taken = corpus(name)
        assert all(list(taken.documents(part)) for part in ("train", "validation", "test"))
    first = as_document(next(corpus("facts-forget").read())).content
    assert first == Pair(invented_facts().forget[0]["question"], invented_facts().forget[0]["answer"], joined=True)


@pytest.mark.parametrize("source", ["facts-world", corpus("facts-world"), corpus(list(world_facts()))])
def test_questions_of_a_corpus_keep_paraphrases_and_wrong_answers(source):
    asked = questions(source)
    assert len(asked) == sum(len(theme.known) for theme in THEMES.values())
    assert (asked[0].answer, asked[0].paraphrase) == (
        "The capital of France is Paris.",
        "The government of France sits in Paris.",
    )
    assert len(asked[0].wrong) == WRONG
