#include "compare.hpp"

#include <algorithm>   // max, min, sort
#include <filesystem>  // exists
#include <optional>    // optional

#include <fmt/format.h>
#include <finetune/data/files.hpp>        // CsvTable, write_atomically
#include <finetune/data/folder_lock.hpp>  // FolderLock
#include <finetune/report/plots.hpp>      // draw, plot_script
#include <nlohmann/json.hpp>

#include "../../paths.hpp"
#include "../../standard_output.hpp"
#include "data.hpp"
#include "memory.hpp"
#include "outputs.hpp"  // save_adapter_files
#include "run_key.hpp"
#include "tuner.hpp"

namespace finetune {

namespace {

using Json = nlohmann::ordered_json;

/// One comparison: what all candidates share, and how far each has come.
class Comparer {
 public:
  explicit Comparer(const CompareOptions& options)
      : base_(options.model),
        options_(with_window(options, base_)),
        model_(base_.config(), base_.pool(),
               options.tune.recompute ? llama::Keep::inputs : llama::Keep::every_layer),
        data_(read_tune_data(base_, options_.data)),
        batches_(std::move(data_.train), options.data.batch_tokens, options.tune.seed) {
    for (const std::string& text : options.candidates) {
      Candidate candidate = {.name = text, .tune = parse_candidate(text, options.tune)};
      candidate.trained = layout_of(candidate.tune, base_.config()).trainable_count();
      candidates_.push_back(std::move(candidate));
    }
    // An example a batch: what is compared are examples, not what stands together.
    for (const TokenBatch& batch : data_.validation) add_examples(batch);
    if (examples_.empty()) throw std::runtime_error("there is no validation example to compare with");
  }

  int run();

 private:
  void add_examples(const TokenBatch& batch) {
    std::size_t begin = 0;
    for (const Index length : batch.lengths) {
      const auto from = static_cast<std::ptrdiff_t>(begin), to = from + length;
      TokenBatch one = {.tokens = {batch.tokens.begin() + from, batch.tokens.begin() + to},
                        .targets = {batch.targets.begin() + from, batch.targets.begin() + to},
                        .lengths = {length}};
      one.counted =
          std::count_if(one.targets.begin(), one.targets.end(), [](std::int32_t t) { return t >= 0; });
      begin += static_cast<std::size_t>(length);
      if (one.counted == 0) continue;
      weights_.push_back(static_cast<double>(one.counted));
      examples_.push_back(std::move(one));
    }
  }

  Json key_of(const Candidate& candidate) const {
    return run_key(options_.model, base_, options_.data, data_, candidate.tune);
  }
  Json key() const;
  std::optional<std::vector<std::int64_t>> read_plan(const std::filesystem::path& path) const;
  std::vector<std::int64_t> plan_steps();
  void train(Candidate& candidate, std::int64_t until);
  void measure(Candidate& candidate, const Adapter& adapter);
  void report();

  static CompareOptions with_window(CompareOptions options, const TuneBase& base) {
    options.data.reading = base.with_window(options.data.reading);
    return options;
  }

  const double begin_ = seconds_now();
  TuneBase base_;
  const CompareOptions options_;
  LanguageModel model_;
  TuneData data_;
  Batches batches_;
  std::vector<TokenBatch> examples_;
  std::vector<double> weights_;  // of the examples: their counted tokens
  std::vector<Candidate> candidates_;
  std::int64_t horizon_ = 0;
  double base_loss_ = 0;
};

void Comparer::measure(Candidate& candidate, const Adapter& adapter) {
  candidate.losses.clear();
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < examples_.size(); ++i) {
    candidate.losses.push_back(mean_loss(model_, base_.model(), &adapter, {&examples_[i], 1}));
    sum += weights_[i] * candidate.losses.back();
    total += weights_[i];
  }
  candidate.loss = sum / total;
}

Json Comparer::key() const {
  Json candidates = Json::array();
  for (const Candidate& candidate : candidates_) candidates.push_back(key_of(candidate));
  return {{"candidates", candidates}, {"minutes", options_.minutes}};
}

/// The steps of the rounds of a comparison that goes on.
std::optional<std::vector<std::int64_t>> Comparer::read_plan(const std::filesystem::path& path) const {
  if (!options_.resume || !std::filesystem::exists(path)) return std::nullopt;
  const auto json = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  const std::string start_anew =
      "; to start anew, remove it and checkpoints/ beside it, or give another --out";
  if (!json.is_object() || !json.contains("key") || !json.contains("steps") || !json["steps"].is_array())
    throw std::runtime_error(path.string() + " is damaged" + start_anew);
  if (json["key"] != key())
    throw std::runtime_error(
        path.string() + " is of a comparison with other options or data: give the same ones" + start_anew);
  std::vector<std::int64_t> steps;
  for (const Json& one : json["steps"]) {
    if (!one.is_number_integer() || one.get<std::int64_t>() <= (steps.empty() ? 0 : steps.back()))
      throw std::runtime_error(path.string() + " is damaged" + start_anew);
    steps.push_back(one.get<std::int64_t>());
  }
  if (steps.size() != rounds_of(candidates_.size()).size())
    throw std::runtime_error(path.string() + " is damaged" + start_anew);
  return steps;
}

/// The steps that a candidate has done at the end of each round. Rounds get equal shares of the time.
std::vector<std::int64_t> Comparer::plan_steps() {
  const std::filesystem::path path = options_.out / "plan.json";
  if (const auto steps = read_plan(path)) return *steps;
  // All count as what the one of the largest rank costs.
  const auto slowest =
      std::max_element(candidates_.begin(), candidates_.end(),
                       [](const auto& a, const auto& b) { return a.tune.rank < b.tune.rank; });
  const auto [step, evaluation] = measure_cost(model_, base_.model(), slowest->tune, batches_, examples_);

  const std::vector<std::size_t> rounds = rounds_of(candidates_.size());
  constexpr std::int64_t fewest = 2;  // steps of a round
  const double left = std::max(0.0, begin_ + 60 * options_.minutes - seconds_now() - 5 - evaluation);
  std::vector<std::int64_t> steps;
  std::int64_t sum = 0;
  bool is_short = false;
  for (const std::size_t count : rounds) {
    const double share = left / static_cast<double>(rounds.size()) / static_cast<double>(count) - evaluation;
    const auto fitting = static_cast<std::int64_t>(share / step);
    is_short = is_short || fitting < fewest;
    sum += std::max(fewest, fitting);
    steps.push_back(sum);
  }
  fmt::print("{} candidates, {} rounds of {:.1f} minutes; a step takes {:.2f} s, an evaluation {:.1f} s\n",
             candidates_.size(), rounds.size(), left / 60 / static_cast<double>(rounds.size()), step,
             evaluation);
  if (is_short)
    fmt::print(
        "Warning: {:g} minutes are too few for {} steps of each candidate in each round; it will take "
        "longer\n",
        options_.minutes, fewest);
  write_atomically(path, Json{{"key", key()}, {"steps", steps}}.dump() + '\n');
  return steps;
}

void Comparer::train(Candidate& candidate, std::int64_t until) {
  Tuner tuner(model_, base_.model(), candidate.tune, batches_, {});
  std::string file = candidate.name;
  std::replace(file.begin(), file.end(), ':', '-');
  TrainingPlan plan = plan_of(candidate.tune, candidate.name, horizon_);
  plan.checkpoint = {.path = options_.out / "checkpoints" / (file + ".safetensors"),
                     .key = fmt::format("{} steps {}", horizon_, key_of(candidate).dump()),
                     .resume = true};
  plan.pause_at = until;
  const TrainingResult result = train_loop(tuner, plan);
  candidate.steps = result.steps;
  candidate.diverged = result.diverged;
  candidate.seconds = result.seconds_per_step * static_cast<double>(result.steps);
  if (result.diverged) candidate.loss = not_measured;
  if (result.diverged || result.interrupted) return;
  measure(candidate, tuner.adapter());
  if (until == horizon_)
    save_adapter_files(options_.out / "adapters" / file, base_, tuner.adapter(), base_.file().name());
}

void Comparer::report() {
  std::vector<const Candidate*> order;
  for (const Candidate& candidate : candidates_) order.push_back(&candidate);
  std::sort(order.begin(), order.end(),
            [](const Candidate* a, const Candidate* b) { return a->trained < b->trained; });
  CsvTable table(
      {"candidate", "scheme", "rank", "rate", "trained", "steps", "seconds", "round", "loss", "diverged"});
  std::string text = fmt::format("{:<18} {:>12} {:>8} {:>10} {:>12}\n", "candidate", "trained", "steps",
                                 "nats/token", "left after");
  text += fmt::format("{:<18} {:>12} {:>8} {:>10.4f}\n", "base", 0, 0, base_loss_);
  for (const Candidate* c : order) {
    table.add({c->name, c->tune.scheme, std::to_string(c->tune.rank), csv_number(rates_of(c->tune).rate),
               std::to_string(c->trained), std::to_string(c->steps), csv_number(c->seconds),
               std::to_string(c->round), csv_number(c->loss), c->diverged ? "1" : "0"});
    text += fmt::format("{:<18} {:>12} {:>8} {:>10} {:>12}\n", c->name, c->trained, c->steps,
                        c->diverged ? "diverged" : fmt::format("{:.4f}", c->loss),
                        c->steps == horizon_ ? "stayed" : fmt::format("round {}", c->round));
  }
  const std::string words = advice(candidates_, weights_);
  fmt::print("\n{}\n{}", text, words);
  table.save(options_.out / "compare.csv");
  write_atomically(options_.out / "result.txt", text + '\n' + words);
  const std::string problem =
      draw(options_.out, "compare",
           plot_script(
               "compare", "compare.csv", 800, 520,
               fmt::format(
                   "  set logscale x\n  set xlabel 'trained numbers'\n  set ylabel 'validation loss, nats "
                   "a token'\n  set key top right\n"
                   "  plot data skip 1 using ($6 == {0} ? $5 : NaN):9:1 with labels point pt 7 ps 1.2 lc rgb "
                   "'#D55E00' offset 0,1 title 'all {0} steps', \\\n"
                   "    data skip 1 using ($6 < {0} ? $5 : NaN):9:(sprintf('%s (%d)', strcol(1), $6)) with "
                   "labels point pt 6 ps 1 lc rgb '#999999' offset 0,1 title 'dropped out, after so many "
                   "steps'\n",
                   horizon_)));
  if (!problem.empty()) fmt::print("Note: {}\n", problem);
  fmt::print("{}: result.txt, compare.csv, adapters/{}\n", options_.out.string(),
             problem.empty() ? ", compare.png" : "");
}

int Comparer::run() {
  for (const Candidate& candidate : candidates_) {
    const tiedlora::Layout layout = layout_of(candidate.tune, base_.config());
    const MemoryEstimate memory = estimate_memory(base_, options_.data, candidate.tune, layout);
    if (const auto available = available_memory(); available && memory.needed() > *available)
      throw std::runtime_error(fmt::format("{} needs {}; leave it out, or take a smaller --batch-tokens",
                                           candidate.name, memory.text()));
  }
  const Interrupt interrupt;
  const std::vector<std::int64_t> steps = plan_steps();
  const std::vector<std::size_t> rounds = rounds_of(candidates_.size());
  horizon_ = steps.back();
  base_loss_ = mean_loss(model_, base_.model(), nullptr, examples_);
  fmt::print("Base: {:.4f} nats a token\n", base_loss_);
  std::vector<std::size_t> left(candidates_.size());
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = i;
  for (std::size_t round = 0; round < rounds.size(); ++round) {
    fmt::print("\n== Round {} of {}: {} candidates to {} steps\n", round + 1, rounds.size(), left.size(),
               steps[round]);
    examples::flush(std::cout);
    std::vector<Candidate> taking_part;
    for (const std::size_t i : left) {
      Candidate& candidate = candidates_[i];
      train(candidate, steps[round]);
      if (Interrupt::requested()) {
        fmt::print("Interrupted: --resume goes on from here\n");
        return Interrupt::exit_status;
      }
      candidate.round = static_cast<int>(round) + 1;
      fmt::print("{:<18} {}\n", candidate.name,
                 candidate.diverged ? "diverged" : fmt::format("{:.4f} nats a token", candidate.loss));
      examples::flush(std::cout);
      taking_part.push_back(candidate);
    }
    if (round + 1 == rounds.size()) break;
    std::vector<std::size_t> next;
    for (const std::size_t i : survivors(taking_part, rounds[round + 1])) next.push_back(left[i]);
    std::sort(next.begin(), next.end());
    left = std::move(next);
  }
  report();
  return 0;
}

}  // namespace

int compare(const CompareOptions& options) {
  if (options.candidates.size() < 2)
    throw std::invalid_argument("--candidates: at least two are needed to compare");
  for (const std::string& candidate : options.candidates) parse_candidate(candidate, options.tune);
  examples::check_output_folder("--out", options.out);
  const FolderLock lock(options.out);
  if (!options.resume && std::filesystem::exists(options.out / "plan.json"))
    throw std::runtime_error(
        fmt::format("{} holds a comparison already; go on with it by --resume, or give another --out",
                    options.out.string()));
  return Comparer(options).run();
}

}  // namespace finetune
