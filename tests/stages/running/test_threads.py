"""One thread unless more were asked for, and none that is not there."""

import pytest
import torch

from pipeline.running.threads import one_thread, torch_threads, usable_cpus
from tans_core.errors import ConfigError


def test_torch_has_the_threads_asked_for_while_the_block_lasts_and_those_it_had_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        with pytest.raises(KeyError), torch_threads(usable_cpus()):
            assert torch.get_num_threads() == usable_cpus()
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [0, -1, usable_cpus() + 1])
def test_threads_that_are_not_there_are_refused(threads):
    with pytest.raises(ConfigError, match=f"--threads must lie between 1 and .* got {threads}"), torch_threads(threads):
        pass
