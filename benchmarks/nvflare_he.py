"""One round of NVFlare's own homomorphic encryption: its encryptor, its aggregator, its decryptor, its serialiser.

Run by `benchmarks.encryption` under a Python that has `nvflare[HE]` (`make bench-encryption` makes one). Prints JSON.
The scheme is the one NVFlare provisions by default: CKKS, N = 8192, [60, 40, 40], scale 2^40, symmetric.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import numpy as np
import tenseal as ts
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_opt.he.intime_accumulate_model_aggregator import HEInTimeAccumulateWeightedAggregator
from nvflare.app_opt.he.model_decryptor import HEModelDecryptor
from nvflare.app_opt.he.model_encryptor import HEModelEncryptor
from nvflare.fuel.utils import fobs


def client_context() -> Any:
    """A client's context with the secret key, as NVFlare's HEBuilder makes it."""
    kind = ts.ENCRYPTION_TYPE.SYMMETRIC
    made = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40], encryption_type=kind)
    made.global_scale = 2**40
    made.generate_relin_keys()
    return ts.context_from(made.serialize(save_secret_key=True))


def round_of(shapes: list[tuple[int, ...]], clients: int) -> dict[str, float]:
    """CPU seconds a client and bytes of one round."""
    context = client_context()
    encryptor, decryptor = HEModelEncryptor(weigh_by_local_iter=True), HEModelDecryptor()
    encryptor.tenseal_context = decryptor.tenseal_context = context
    encryptor.encrypt_layers = [True]
    encryptor.n_iter = 1
    aggregator = HEInTimeAccumulateWeightedAggregator(expected_data_kind=DataKind.WEIGHT_DIFF)
    fl_ctx = FLContext()
    fl_ctx.set_prop(AppConstants.CURRENT_ROUND, 0)
    aggregator.handle_event(EventType.START_RUN, fl_ctx)
    seal, add, up = [], [], 0
    for number in range(clients):
        rng = np.random.default_rng(number)
        params = {f"t{n}": rng.uniform(-0.01, 0.01, shape).astype(np.float32) for n, shape in enumerate(shapes)}
        begun = time.process_time()
        dxo = DXO(DataKind.WEIGHT_DIFF, data=params, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 1})
        upload = fobs.dumps(encryptor._process(dxo, fl_ctx).to_shareable())
        seal.append(time.process_time() - begun)
        up = len(upload)
        begun = time.process_time()
        shareable = fobs.loads(upload)
        shareable.set_peer_props({ReservedKey.IDENTITY_NAME: f"c{number}"})
        shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, 0)
        if not aggregator.accept(shareable, fl_ctx):
            raise RuntimeError("NVFlare did not accept an upload")
        add.append(time.process_time() - begun)
    begun = time.process_time()
    download = fobs.dumps(aggregator.aggregate(fl_ctx))
    total = time.process_time() - begun
    begun = time.process_time()
    shareable = fobs.loads(download)
    decryptor.process_dxo(from_shareable(shareable), shareable, fl_ctx)
    opened = time.process_time() - begun
    return {"seal": min(seal), "add": sum(add), "total": total, "open": opened, "up": up, "down": len(download)}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps(round_of(json.loads(sys.argv[1]), int(sys.argv[2]))))
