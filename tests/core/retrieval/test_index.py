from math import fsum

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from tans_core.retrieval.index import Index


@settings(max_examples=50, deadline=None)
@example(23, 5, 23)  # a product of matrix and vector gives rows 19 and 21, which are equal, different last bits
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
def test_the_top_is_that_of_a_full_sort_and_ties_are_broken_by_key(rows, count, seed):
    generator = torch.Generator().manual_seed(seed)
    embedding = normalize(torch.randint(-1, 2, (rows, 3), generator=generator).float() + 0.1, dim=1)  # many equal
    keys = [f"{number:02x}" for number in torch.randperm(rows, generator=generator).tolist()]
    allowed = torch.rand(rows, generator=generator) < 0.7
    query = normalize(torch.randn(3, generator=generator), dim=0)
    similarity = [fsum(a * b for a, b in zip(row, query.tolist())) for row in embedding.tolist()]
    by_hand = sorted((row for row in range(rows) if allowed[row]), key=lambda row: (-similarity[row], keys[row]))
    assert [each.place for each in Index(keys, embedding, torch.zeros(rows, 1)).top(query, count, allowed)] == by_hand[
        :count
    ]
