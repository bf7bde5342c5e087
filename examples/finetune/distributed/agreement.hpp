// What all processes of a run must agree in: errors, what they train on, the parameters.
#pragma once

#include <cstdint>    // int64_t
#include <exception>  // exception
#include <ostream>    // ostream
#include <span>       // span
#include <sstream>    // ostringstream
#include <stdexcept>  // invalid_argument, runtime_error
#include <string>     // string

#include <nlohmann/json.hpp>

#include "communicator.hpp"

namespace finetune {

/// What all processes know of, so that each may end by itself and the first say it.
struct AgreedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// The same for wrong usage.
struct AgreedUsage : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// What a process has found wrong.
struct Problem {
  std::string text = {};  ///< empty: nothing
  bool is_usage = false;
};
template <class Work>
Problem problem_of(const Work& work) {
  try {
    work();
  } catch (const std::invalid_argument& error) {
    return {error.what(), true};
  } catch (const std::exception& error) {
    return {error.what(), false};
  }
  return {};
}

/// Throws AgreedError or AgreedUsage on all if any has a problem: saying whose it is, unless all have the
/// same.
void agree(Communicator& processes, const Problem& mine);
/// Throws them on all if the first has a problem.
void agree_with_first(Communicator& processes, Problem problem);

/// Works on every process, without calls of `processes`; what one throws all throw.
template <class Work>
void all_or_none(Communicator& processes, const Work& work) {
  if (processes.size() == 1) return work();
  agree(processes, problem_of(work));
}

/// What only the first does, such as writing files; where it throws, all do.
template <class Work>
void first_only(Communicator& processes, const Work& work) {
  if (processes.size() == 1) return work();
  agree_with_first(processes, processes.is_first() ? problem_of(work) : Problem());
}

/// Says on stderr what this process met and ends all.
[[noreturn]] void end_all(Communicator& processes, const std::string& problem);

/// Runs a command on every process. What a single one throws is reported with its name and ends all.
template <class Work>
int run_on_all(Communicator& processes, const Work& work) {
  if (processes.size() == 1) return work();
  try {
    return work();
  } catch (const AgreedError&) {
    throw;
  } catch (const AgreedUsage&) {
    throw;
  } catch (const std::exception& error) {
    end_all(processes, error.what());
  }
}

/// Parses a command line and works, on every process: parse_and_run(said, work) is examples::run_command with
/// its errors to `said`. A process whose command line is wrong ends the others with what is wrong; or they
/// would wait.
template <class ParseAndRun, class Work>
int run_if_all_parse(Communicator& processes, std::ostream& errors, const ParseAndRun& parse_and_run,
                     const Work& work) {
  if (processes.size() == 1) return parse_and_run(errors, work);
  bool parsed = false;
  std::ostringstream said;
  const int status = parse_and_run(said, [&] {
    parsed = true;
    agree(processes, {});
    return run_on_all(processes, work);
  });
  if (!parsed) {
    const std::string text = said.str();
    (void)problem_of([&] { agree(processes, {text.empty() ? "asks for help" : text, true}); });
  }
  if (processes.is_first()) errors << said.str();  // what all know of, the first says
  return status;
}

/// Throws AgreedError, naming process and key, if not all have the same of what their bits depend on.
void check_same_run(Communicator& processes, const nlohmann::ordered_json& key);

/// Throws AgreedError, naming the process, if not all have the same parameters after `step` steps.
void check_same_parameters(Communicator& processes, std::span<const float> parameters, std::int64_t step);

}  // namespace finetune
