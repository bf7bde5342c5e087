"""Writes the seeds of the target peft_config: the configs of PEFT's golden folders."""

import pathlib

here = pathlib.Path(__file__).parent
(here / "corpus/peft_config").mkdir(parents=True, exist_ok=True)
for path in sorted((here.parent / "golden/peft").glob("*/adapter_config.json")):
    (here / "corpus/peft_config" / path.parent.name).write_bytes(path.read_bytes())
(here / "corpus/peft_config/pattern").write_text(r"^(?:model|x)\.layers\.[0-9]+?\..*(q|v)_proj$", encoding="utf-8")
