"""Which devices a step with `probability` runs on: decided by a hash, so that a run always samples the same ones."""

import hashlib

_BITS = 64


def is_sampled(run_id: str, device_id: str, step_id: str, probability: float) -> bool:
    """Whether this device runs the step. Stable across processes and machines; 1.0 is everyone, 0.0 nobody."""
    if probability >= 1.0:
        return True
    # The lengths keep ("a", "bc") and ("ab", "c") apart.
    text = "".join(f"{len(part)}:{part}" for part in (run_id, device_id, step_id))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    drawn = int.from_bytes(digest[: _BITS // 8], "big")
    return bool(drawn < probability * 2**_BITS)
