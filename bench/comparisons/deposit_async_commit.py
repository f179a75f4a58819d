"""The deposits again, without waiting for the disk."""
from comparisons import deposit


def run(effort):
    yield from deposit.compare(effort, 'deposit_async_commit', dict.fromkeys((1, 8, 16, 32), 0.75), 'off')
