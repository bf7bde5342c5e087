// Folders of Hugging Face PEFT: LoRA and VeRA, both ways.
#pragma once

#include "peft/load.hpp"
#include "peft/save.hpp"
