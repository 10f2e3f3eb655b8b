"""The zoo: Delta tables and a weights folder, and the lock of its driver."""

from pipeline.zoo.lock import ZooLock
from pipeline.zoo.store import Zoo

__all__ = ["Zoo", "ZooLock"]
