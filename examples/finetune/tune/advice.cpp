// What a comparison comes to.
#include <algorithm>  // find, max, min_element, sort
#include <cmath>      // log, sqrt
#include <stdexcept>  // invalid_argument
#include <tuple>      // tuple

#include <fmt/format.h>
#include <fmt/ranges.h>  // join

#include "../../numbers.hpp"
#include "compare.hpp"

namespace finetune {

namespace {

/// "v_proj+q_proj".
template <class Fail>
std::vector<std::string> parse_targets(const std::string& text, const Fail& fail) {
  const std::vector<std::string>& all = all_targets();
  std::vector<std::string> targets;
  for (std::size_t begin = 0, end = 0; end != text.npos; begin = end + 1) {
    end = text.find('+', begin);
    targets.push_back(text.substr(begin, end - begin));
    if (std::find(all.begin(), all.end(), targets.back()) == all.end())
      fail(fmt::format("has targets other than {}", fmt::join(all, ", ")));
    if (std::find(targets.begin(), targets.end() - 1, targets.back()) != targets.end() - 1)
      fail(fmt::format("has {} twice", targets.back()));
  }
  return targets;
}

}  // namespace

TuneOptions parse_candidate(const std::string& whole, TuneOptions rest) {
  const auto fail = [&](const std::string& why) {
    throw std::invalid_argument(fmt::format(
        "--candidates: {} {}; write SCHEME:RANK, SCHEME:RANK:RATE or SCHEME:RANK:RATE:B_RATE, and "
        "@TARGETS for targets of its own, such as tl6:32 or lora:1:0.01:0.03@q_proj+v_proj",
        examples::in_short(whole), why));
  };
  const std::size_t at = whole.find('@');
  if (at != whole.npos) rest.targets = parse_targets(whole.substr(at + 1), fail);
  const std::string text = whole.substr(0, at);
  const std::size_t first = text.find(':');
  if (first == text.npos) fail("has no rank");
  const std::size_t second = text.find(':', first + 1);
  rest.scheme = text.substr(0, first);
  try {
    scheme_named(rest.scheme);
  } catch (const std::invalid_argument&) {
    std::string names;
    for (const auto& [known, scheme] : named_schemes()) names += (names.empty() ? "" : ", ") + known;
    fail("does not begin with one of the schemes " + names);
  }
  const auto rank = examples::to_whole<Index>(std::string_view(text).substr(first + 1, second - first - 1));
  if (!rank || *rank < 1 || *rank > examples::largest_rank)
    fail(fmt::format("has no rank from 1 to {}", examples::largest_rank));
  rest.rank = rank.value_or(0);
  if (second == text.npos) return rest;
  const auto rate_at = [&](std::size_t begin, std::size_t end, const char* name) {
    const auto rate = examples::to_number(std::string_view(text).substr(begin, end - begin));
    if (!rate || *rate < examples::smallest_number || *rate > examples::largest_number)
      fail(fmt::format("has no positive {}", name));
    return rate;
  };
  const std::size_t third = text.find(':', second + 1);
  rest.rate = rate_at(second + 1, third, "rate after its rank");
  if (third == text.npos) return rest;
  if (!has_b_rate(scheme_named(rest.scheme)))
    fail(fmt::format("has a rate of B, but the scheme {} does not train both A and B", rest.scheme));
  rest.b_rate = rate_at(third + 1, text.npos, "rate of B at its end");
  return rest;
}

std::vector<std::size_t> rounds_of(std::size_t count) {
  std::vector<std::size_t> rounds = {count};
  while (rounds.back() > 2) rounds.push_back((rounds.back() + 1) / 2);
  return rounds;
}

bool is_smaller(const Candidate* a, const Candidate* b) {
  const auto key = [](const Candidate* c) {
    return std::tuple(c->trained, c->diverged, c->diverged ? 0 : c->loss);
  };
  return key(a) < key(b);
}

namespace {

/// Evenly spaced by the logarithm of their parameters, with both ends; of one, the smallest. `frontier`:
/// indices in falling order of parameters.
std::vector<std::size_t> thinned(std::span<const Candidate> candidates, std::vector<std::size_t> frontier,
                                 std::size_t count) {
  const auto size = [&](std::size_t i) { return std::log(static_cast<double>(candidates[i].trained)); };
  const double smallest = size(frontier.back()), largest = size(frontier.front());
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < count; ++i) {
    const double part = count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0;
    const double wanted = smallest + part * (largest - smallest);
    const auto nearest =
        std::min_element(frontier.begin(), frontier.end(), [&](std::size_t a, std::size_t b) {
          return std::abs(size(a) - wanted) < std::abs(size(b) - wanted);
        });
    chosen.push_back(*nearest);
    frontier.erase(nearest);
  }
  return chosen;
}

}  // namespace

std::vector<std::size_t> survivors(std::span<const Candidate> candidates, std::size_t count) {
  std::vector<std::size_t> order(candidates.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::erase_if(order, [&](std::size_t i) { return candidates[i].diverged; });
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(candidates[a].loss, candidates[a].trained) <
           std::pair(candidates[b].loss, candidates[b].trained);
  });
  // In rising order of loss, one is on the frontier if it has fewer parameters than all before it.
  std::vector<std::size_t> chosen, others;
  Index fewest = std::numeric_limits<Index>::max();
  for (const std::size_t i : order) {
    (candidates[i].trained < fewest ? chosen : others).push_back(i);
    fewest = std::min(fewest, candidates[i].trained);
  }
  for (const std::size_t i : others)
    if (chosen.size() < count) chosen.push_back(i);
  if (chosen.size() > count) chosen = thinned(candidates, std::move(chosen), count);
  std::sort(chosen.begin(), chosen.end(),
            [&](std::size_t a, std::size_t b) { return candidates[a].loss < candidates[b].loss; });
  return chosen;
}

bool PairedDifference::is_clear() const { return std::abs(mean) > 2 * error; }

PairedDifference paired_difference(const Candidate& a, const Candidate& b, std::span<const double> weights) {
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i] * (a.losses[i] - b.losses[i]);
    total += weights[i];
  }
  PairedDifference result = {.mean = sum / total};
  // Of a ratio of sums: the weighted deviations from the mean are what varies.
  double squares = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double deviation = weights[i] * (a.losses[i] - b.losses[i] - result.mean);
    squares += deviation * deviation;
  }
  const auto n = static_cast<double>(weights.size());
  result.error = n > 1 ? std::sqrt(squares * n / (n - 1)) / total : std::numeric_limits<double>::infinity();
  return result;
}

std::string advice(std::span<const Candidate> candidates, std::span<const double> weights) {
  std::int64_t most = 0;
  for (const Candidate& c : candidates)
    if (!c.diverged) most = std::max(most, c.steps);
  std::vector<const Candidate*> finalists;
  for (const Candidate& c : candidates)
    if (!c.diverged && c.steps == most) finalists.push_back(&c);
  if (finalists.empty()) return "No candidate was trained without diverging: take lower rates.\n";
  std::sort(finalists.begin(), finalists.end(), is_smaller);
  const Candidate* choice = finalists.front();
  std::string text =
      fmt::format("Take {} ({} parameters, loss {:.4f})", choice->name, choice->trained, choice->loss);
  std::string thin;
  for (std::size_t i = 1; i < finalists.size(); ++i) {
    const Candidate& larger = *finalists[i];
    const PairedDifference gain = paired_difference(*choice, larger, weights);
    if (gain.is_clear() && gain.mean > 0) {
      text += fmt::format(", or {} if {} parameters are not too many ({:.4f}: {:.4f} ± {:.4f} better)",
                          larger.name, larger.trained, larger.loss, gain.mean, 2 * gain.error);
      choice = &larger;
    } else if (!gain.is_clear()) {
      thin += fmt::format(
          " {} and {} differ by {:.4f} ± {:.4f} nats a token, which these {} validation examples do "
          "not tell apart.",
          choice->name, larger.name, gain.mean, 2 * gain.error, weights.size());
    } else {
      thin += fmt::format(" {} has {} parameters and is worse.", larger.name,
                          larger.trained > choice->trained ? "more" : "as many");
    }
  }
  text += fmt::format(".{} One seed each: another would move every loss a little.", thin);
  if (weights.size() < 30)
    text += fmt::format(" {} validation examples are few: give more with --validation or --held-out.",
                        weights.size());
  return text + '\n';
}

}  // namespace finetune
