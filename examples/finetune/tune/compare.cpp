#include "compare.hpp"

#include <algorithm>   // max, max_element, replace, sort
#include <cmath>       // isfinite
#include <filesystem>  // exists, remove
#include <memory>      // make_unique, unique_ptr
#include <optional>    // optional

#include <fmt/format.h>
#include <fmt/ranges.h>                        // join
#include <finetune/data/files.hpp>             // read_file
#include <finetune/data/folder_lock.hpp>       // FolderLock
#include <finetune/distributed/agreement.hpp>  // all_or_none, check_same_run, first_only
#include <finetune/train/settings_differences.hpp>
#include <nlohmann/json.hpp>

#include "../../paths.hpp"
#include "../../standard_output.hpp"
#include "compare_report.hpp"
#include "data.hpp"
#include "memory.hpp"
#include "outputs.hpp"  // save_adapter_files
#include "run_folder.hpp"
#include "run_key.hpp"
#include "tuner.hpp"

namespace finetune {

namespace {

using Json = nlohmann::ordered_json;

/// One comparison: what all candidates share, and how far each has come. In every round a process trains some
/// of the candidates, by itself; then all learn what became of them, and choose alike. The first keeps the
/// plan.
class Comparer {
 public:
  Comparer(const CompareOptions& options, Communicator& processes)
      : processes_(processes),
        base_(options.model),
        options_(with_window(options, base_)),
        model_(base_.config(), base_.pool(),
               options.tune.recompute ? llama::Keep::inputs : llama::Keep::every_layer),
        data_(read_tune_data(base_, options_.data)),
        batches_(std::move(data_.train), options.data.batch_tokens, options.tune.seed) {
    for (const std::string& text : options.candidates) {
      Candidate candidate = {.name = text, .tune = parse_candidate(text, options.tune)};
      candidate.rates = rates_of(candidate.tune, base_.config());
      const auto is_same = [&](const Candidate& other) {
        return other.tune.scheme == candidate.tune.scheme && other.tune.rank == candidate.tune.rank &&
               other.tune.targets == candidate.tune.targets && other.rates == candidate.rates;
      };
      // --targets may make it so, or a rate that is the default, or B's that is A's.
      if (std::any_of(candidates_.begin(), candidates_.end(), is_same)) continue;
      candidate.trained = layout_of(candidate.tune, base_.config()).trainable_count();
      candidates_.push_back(std::move(candidate));
    }
    if (candidates_.size() < 2)
      throw std::invalid_argument(
          "--candidates: all are the same with these --targets and the default rates; two are needed to "
          "compare");
    // An example a batch: what is compared are examples, not what stands together.
    examples_ = one_by_one(data_.validation);
    for (const TokenBatch& example : examples_) weights_.push_back(static_cast<double>(example.counted));
    check_memory();
  }

  int run();

 private:
  void check_memory();

  Json key_of(const Candidate& candidate) const {
    return run_key(options_.model, base_, options_.data, data_, candidate.tune);
  }
  static std::string file_name(const Candidate& candidate) {
    std::string name = candidate.name;
    std::replace(name.begin(), name.end(), ':', '-');
    return name;
  }
  std::filesystem::path checkpoint_of(const Candidate& candidate) const {
    return options_.out / "checkpoints" / (file_name(candidate) + ".safetensors");
  }
  Json key() const;
  void check_same_everywhere();
  void read_plan();
  void share_plan();
  void plan_steps(const StepCost& cost);
  StepCost measured_cost();
  void write_plan() const;
  void train(Candidate& candidate, std::int64_t until);
  void measure(Candidate& candidate, const Adapter& adapter);
  void set_losses(Candidate& candidate, std::vector<double> losses) const;
  bool train_round(const std::vector<std::size_t>& left, std::int64_t until);
  void say(const Candidate& candidate) const;
  Json outcome_of(const std::vector<std::size_t>& left) const;
  void read_round(const Json& round);

  static CompareOptions with_window(CompareOptions options, const TuneBase& base) {
    options.data.reading = base.with_window(options.data.reading, options.data.batch_tokens);
    return options;
  }

  const double begin_ = seconds_now();
  Communicator& processes_;
  TuneBase base_;
  const CompareOptions options_;
  LanguageModel model_;
  TuneData data_;
  Batches batches_;
  std::vector<TokenBatch> examples_;
  std::vector<double> weights_;  // of the examples: their counted tokens
  std::vector<Candidate> candidates_;
  std::vector<std::int64_t> steps_;  // that a candidate has done at the end of each round
  Json rounds_ = Json::array();      // that are done: what became of each candidate that took part
};

void Comparer::measure(Candidate& candidate, const Adapter& adapter) {
  std::vector<double> losses;
  for (const TokenBatch& example : examples_)
    losses.push_back(mean_loss(model_, base_.model(), &adapter, {&example, 1}));
  set_losses(candidate, std::move(losses));
}

void Comparer::set_losses(Candidate& candidate, std::vector<double> losses) const {
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    sum += weights_[i] * losses[i];
    total += weights_[i];
  }
  candidate.losses = std::move(losses);
  candidate.loss = total > 0 ? sum / total : not_measured;
  candidate.diverged = candidate.diverged || !std::isfinite(candidate.loss);
}

// What a round came to is kept: a candidate that was trained further meanwhile has another loss now.
Json Comparer::outcome_of(const std::vector<std::size_t>& left) const {
  Json round = Json::array();
  for (const std::size_t i : left) {
    const Candidate& c = candidates_[i];
    round.push_back({{"candidate", i},
                     {"steps", c.steps},
                     {"seconds", c.seconds},
                     {"diverged", c.diverged},
                     {"losses", c.diverged ? std::vector<double>() : c.losses}});
  }
  return round;
}

void Comparer::read_round(const Json& round) {
  for (const Json& one : round) {
    Candidate& candidate = candidates_.at(one.at("candidate").get<std::size_t>());
    candidate.steps = one.at("steps").get<std::int64_t>();
    candidate.seconds = one.at("seconds").get<double>();
    candidate.diverged = one.at("diverged").get<bool>();
    auto losses = one.at("losses").get<std::vector<double>>();
    if (losses.size() != (candidate.diverged ? 0 : examples_.size()))
      throw std::out_of_range("not the losses of these examples");
    set_losses(candidate, std::move(losses));
  }
}

Json Comparer::key() const {
  Json key = key_of(candidates_.front());  // in what the others differ follows from their names
  key["candidates"] = fmt::format("{}", fmt::join(options_.candidates, " "));
  key["minutes"] = options_.minutes;
  return key;
}

void Comparer::check_same_everywhere() {
  if (processes_.size() == 1) return;
  Json all = key();
  all["weights"] = fmt::format("{:016x}", base_.weights_hash());
  check_same_run(processes_, all);
}

/// Leaves no steps if this is not a comparison that continues.
void Comparer::read_plan() {
  const auto plan = options_.resume ? finetune::read_plan(options_.out, FolderOf::compare) : std::nullopt;
  if (!plan) return;
  if (plan->contains("key") && (*plan)["key"] != key())
    throw std::runtime_error(
        fmt::format("{} belongs to a comparison with different options or data{}; use the same ones; {}",
                    plan_path(options_.out).string(), list_differences((*plan)["key"], key()),
                    start_anew(options_.out, FolderOf::compare)));
  try {
    plan->at("key");
    steps_ = plan->at("steps").get<std::vector<std::int64_t>>();
    rounds_ = plan->at("rounds");
    const bool rises = !steps_.empty() && steps_.front() > 0 && std::is_sorted(steps_.begin(), steps_.end());
    if (rises && steps_.size() == rounds_of(candidates_.size()).size() && rounds_.is_array() &&
        rounds_.size() <= steps_.size())
      return;
  } catch (const Json::exception&) {
  }
  refuse_damaged_plan(options_.out, FolderOf::compare);
}

void Comparer::write_plan() const {
  finetune::write_plan(options_.out, FolderOf::compare,
                       {{"key", key()}, {"steps", steps_}, {"rounds", rounds_}});
}

/// All get the first's plan, and see whether they have its folder.
void Comparer::share_plan() {
  if (processes_.size() == 1) return;
  std::string text;
  first_only(processes_, [&] { text = read_file(plan_path(options_.out)); });
  processes_.broadcast_text(text);
  all_or_none(processes_, [&] {
    if (!std::filesystem::exists(plan_path(options_.out)) || read_file(plan_path(options_.out)) != text)
      throw std::runtime_error(
          fmt::format("--out: {} is not the folder of the first process; a comparison in several processes "
                      "needs one that all of them see",
                      options_.out.string()));
    const Json plan = Json::parse(text);
    steps_ = plan.at("steps").get<std::vector<std::int64_t>>();
    rounds_ = plan.at("rounds");
  });
}

/// All candidates count as what the one of the largest rank costs, and all processes as the slowest.
StepCost Comparer::measured_cost() {
  const auto largest =
      std::max_element(candidates_.begin(), candidates_.end(),
                       [](const auto& a, const auto& b) { return a.tune.rank < b.tune.rank; });
  StepCost cost = measure_cost(model_, base_.model(), largest->tune, batches_, examples_);
  for (const double step : processes_.gather(cost.step)) cost.step = std::max(cost.step, step);
  for (const double one : processes_.gather(cost.evaluation))
    cost.evaluation = std::max(cost.evaluation, one);
  return cost;
}

/// Rounds get equal shares of the time.
void Comparer::plan_steps(const StepCost& cost) {
  const auto [step, evaluation] = cost;
  const auto processes = static_cast<std::size_t>(processes_.size());
  const std::vector<std::size_t> rounds = rounds_of(candidates_.size());
  constexpr std::int64_t fewest = 2;  // steps of a round
  const double left = std::max(0.0, begin_ + 60 * options_.minutes - seconds_now() - 5 - evaluation);
  std::int64_t sum = 0;
  bool is_short = false;
  for (const std::size_t count : rounds) {
    const std::size_t of_a_process = (count + processes - 1) / processes;
    const double share =
        left / static_cast<double>(rounds.size()) / static_cast<double>(of_a_process) - evaluation;
    const auto fitting = static_cast<std::int64_t>(share / step);
    is_short = is_short || fitting < fewest;
    sum += std::max(fewest, fitting);
    steps_.push_back(sum);
  }
  fmt::print("{} candidates{}, {} rounds of {:.1f} minutes; a step takes {:.2f} s, an evaluation {:.1f} s\n",
             candidates_.size(), processes > 1 ? fmt::format(" in {} processes", processes) : std::string(),
             rounds.size(), left / 60 / static_cast<double>(rounds.size()), step, evaluation);
  if (is_short)
    fmt::print(
        "Warning: {:g} minutes are too few for {} steps of each candidate in each round; it will take "
        "longer\n",
        options_.minutes, fewest);
  write_plan();
}

void Comparer::train(Candidate& candidate, std::int64_t until) {
  const std::int64_t horizon = steps_.back();
  Tuner tuner(model_, base_.model(), candidate.tune, batches_, {});
  TrainingPlan plan = plan_of(candidate.tune, candidate.name, horizon);
  plan.checkpoint = {.path = checkpoint_of(candidate),
                     .key = fmt::format("{} steps {}", horizon, key_of(candidate).dump()),
                     .start_anew = start_anew(options_.out, FolderOf::compare),
                     .resume = true};
  plan.pause_at = until;
  const TrainingResult result = train_loop(tuner, plan);
  candidate.steps = result.steps;
  candidate.diverged = result.diverged;
  candidate.seconds = result.seconds_per_step * static_cast<double>(result.steps);
  if (result.diverged) candidate.loss = not_measured;
  if (result.diverged || result.interrupted) return;
  measure(candidate, tuner.adapter());
  if (until == horizon)
    save_adapter_files(options_.out / "adapters" / file_name(candidate), base_, tuner.adapter(),
                       base_.file().name());
}

void Comparer::check_memory() {
  for (const Candidate& candidate : candidates_) {
    const tiedlora::Layout layout = layout_of(candidate.tune, base_.config());
    const MemoryEstimate memory =
        estimate_memory(base_, options_.data, candidate.tune, layout, /*resume=*/true);
    const int here = processes_.on_this_machine();
    if (const auto available = available_memory(); available && here * memory.needed() > *available)
      throw std::runtime_error(fmt::format(
          "{} needs {}{}; leave it out, or take a smaller --batch-tokens", candidate.name, memory.text(),
          here > 1 ? fmt::format(", and so may each of {} processes on this machine", here) : std::string()));
  }
}

void Comparer::say(const Candidate& candidate) const {
  fmt::print("{:<24} {}\n", candidate.name,
             candidate.diverged ? "diverged" : fmt::format("{:.4f} nats a token", candidate.loss));
  examples::flush(std::cout);
}

/// Returns false where it was interrupted.
bool Comparer::train_round(const std::vector<std::size_t>& left, std::int64_t until) {
  std::vector<std::size_t> mine;
  for (auto i = static_cast<std::size_t>(processes_.rank()); i < left.size() && !Interrupt::requested();
       i += static_cast<std::size_t>(processes_.size())) {
    Candidate& candidate = candidates_[left[i]];
    train(candidate, until);
    if (!Interrupt::requested()) say(candidate);
    mine.push_back(left[i]);
  }
  if (processes_.any(Interrupt::requested())) return false;
  const std::vector<std::string> outcomes = processes_.gather_texts(outcome_of(mine).dump());
  for (int r = 0; r < processes_.size(); ++r)
    if (r != processes_.rank()) read_round(Json::parse(outcomes[static_cast<std::size_t>(r)]));
  for (std::size_t i = 0; i < left.size(); ++i)
    if (i % static_cast<std::size_t>(processes_.size()) != static_cast<std::size_t>(processes_.rank()))
      say(candidates_[left[i]]);
  rounds_.push_back(outcome_of(left));
  first_only(processes_, [&] { write_plan(); });
  return true;
}

int Comparer::run() {
  check_same_everywhere();
  first_only(processes_, [&] { read_plan(); });
  if (!processes_.any(!steps_.empty())) {
    // A new comparison does not go on from what an older one left.
    first_only(processes_, [&] {
      for (const Candidate& candidate : candidates_) std::filesystem::remove(checkpoint_of(candidate));
    });
    const StepCost cost = measured_cost();
    first_only(processes_, [&] { plan_steps(cost); });
  }
  share_plan();
  const std::vector<std::size_t> rounds = rounds_of(candidates_.size());
  const double base_loss = mean_loss(model_, base_.model(), nullptr, examples_, processes_);
  fmt::print("Base: {:.4f} nats a token\n", base_loss);
  std::vector<std::size_t> left(candidates_.size());
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = i;
  const std::size_t done = rounds_.size();
  for (std::size_t round = 0; round < rounds.size(); ++round) {
    fmt::print("\n== Round {} of {}: {} candidates to {} steps{}\n", round + 1, rounds.size(), left.size(),
               steps_[round], round < done ? ", done before" : "");
    examples::flush(std::cout);
    if (round < done) {
      all_or_none(processes_, [&] {
        try {
          read_round(rounds_[round]);
        } catch (const std::exception&) {
          refuse_damaged_plan(options_.out, FolderOf::compare);
        }
      });
      for (const std::size_t i : left) say(candidates_[i]);
    } else if (!train_round(left, steps_[round])) {
      fmt::print("Interrupted: --resume continues from here\n");
      return Interrupt::exit_status;
    }
    std::vector<Candidate> taking_part;
    for (const std::size_t i : left) {
      candidates_[i].round = static_cast<int>(round) + 1;
      taking_part.push_back(candidates_[i]);
    }
    if (round + 1 == rounds.size()) break;
    std::vector<std::size_t> next;
    for (const std::size_t i : survivors(taking_part, rounds[round + 1])) next.push_back(left[i]);
    std::sort(next.begin(), next.end());
    left = std::move(next);
  }
  first_only(processes_, [&] {
    report(options_.out, candidates_, weights_, {.steps = steps_.back(), .base_loss = base_loss});
  });
  return 0;
}

}  // namespace

int compare(const CompareOptions& options, Communicator& processes) {
  const Interrupt interrupt;
  std::optional<FolderLock> lock;  // of the first, for all
  std::unique_ptr<Comparer> comparer;
  all_or_none(processes, [&] {
    if (options.candidates.size() < 2)
      throw std::invalid_argument("--candidates: at least two are needed to compare");
    if (!has_validation(options.data))
      throw std::invalid_argument(
          "finetune compare needs validation examples: give --validation FILE or a --held-out above 0");
    for (const std::string& candidate : options.candidates) parse_candidate(candidate, options.tune);
    if (processes.is_first()) {
      examples::check_output_folder("--out", options.out);
      if (std::filesystem::exists(options.out)) lock.emplace(options.out);
      check_folder(options.out, FolderOf::compare, options.resume);
    }
    comparer = std::make_unique<Comparer>(options, processes);
    if (processes.is_first() && !lock) lock.emplace(options.out);  // nothing was written until here
  });
  return comparer->run();
}

}  // namespace finetune
