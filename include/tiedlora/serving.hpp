// Many adapters in one batch of tokens.
#pragma once

#include "serving/adapter_set.hpp"     // AdapterSet, AdapterSnapshot
#include "serving/batch.hpp"           // shrink, expand, forward by a plan
#include "serving/batch_plan.hpp"      // BatchPlan
#include "serving/plan_on_device.hpp"  // PlanOnDevice: for a backend with memory of its own
