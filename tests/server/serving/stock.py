"""What stock clients do with an endpoint, in a process of its own: their stubs and ours cannot share one."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

ROWS = {"age": [70.0, float("nan")], "lab": [6.5, 2.0], "unit": [b"intensive", b""]}


def inputs(module: object, binary: bool = True) -> list[object]:
    made = []
    for name, values in ROWS.items():
        array = np.array(values, dtype=np.object_ if name == "unit" else np.float64).reshape(-1, 1)
        tensor = module.InferInput(name, list(array.shape), "BYTES" if name == "unit" else "FP64")
        if module is httpclient:
            tensor.set_data_from_numpy(array, binary_data=binary)
        else:
            tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def refused(call: object) -> str:
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "not refused"


def main(http: str, grpc: str) -> None:
    said: dict[str, object] = {}
    for kind, module, address in (("http", httpclient, http), ("grpc", grpcclient, grpc)):
        client = module.InferenceServerClient(address)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("stay")
        assert not client.is_model_ready("other")
        told = client.get_model_metadata("stay", **({} if kind == "http" else {"as_json": True}))
        said[f"{kind} inputs"] = {one["name"]: one["datatype"] for one in told["inputs"]}
        answer = client.infer("stay", inputs(module), request_id="seven")
        said[kind] = answer.as_numpy("probability").reshape(-1).tolist()
        response = answer.get_response()
        get = response.get if kind == "http" else lambda name, response=response: getattr(response, name)
        said[f"{kind} version"], said[f"{kind} id"] = get("model_version"), get("id")
        wanted = [module.InferRequestedOutput("positive")]
        answer = client.infer("stay", inputs(module), model_version="1", outputs=wanted)
        assert answer.as_numpy("probability") is None
        said[f"{kind} positive"] = answer.as_numpy("positive").reshape(-1).tolist()
        said[f"{kind} refused"] = [
            refused(lambda client=client, module=module: client.infer("other", inputs(module))),
            refused(lambda client=client, module=module: client.infer("stay", inputs(module), model_version="77")),
            refused(lambda client=client, module=module: client.infer("stay", inputs(module)[:2])),
            refused(lambda client=client, module=module: client.infer("stay", inputs(module) * 2)),
        ]
        client.close()
    plain = httpclient.InferenceServerClient(http)
    answer = plain.infer(
        "stay",
        inputs(httpclient, binary=False),
        outputs=[httpclient.InferRequestedOutput("probability", binary_data=False)],
        request_compression_algorithm="gzip",
    )
    said["http json"] = answer.as_numpy("probability").reshape(-1).tolist()
    plain.close()

    async def later() -> list[float]:
        async with grpcaio.InferenceServerClient(grpc) as client:
            answer = await client.infer("stay", inputs(grpcclient))
            return answer.as_numpy("probability").reshape(-1).tolist()

    said["grpc aio"] = asyncio.run(later())
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
