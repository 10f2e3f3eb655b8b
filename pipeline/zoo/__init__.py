"""The zoo: Delta tables and a weights folder, and the lock of its driver."""

from pipeline.zoo.lock import ZooLock
from pipeline.zoo.store import Zoo
from pipeline.zoo.verify import refuse_other_start, verify_weights

__all__ = ["Zoo", "ZooLock", "refuse_other_start", "verify_weights"]
