// Folders of Hugging Face PEFT: LoRA and VeRA, both ways.
#pragma once

#include "peft_load.hpp"
#include "peft_save.hpp"
