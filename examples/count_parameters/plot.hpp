// The picture: trainable parameters against rank, one line per scheme, drawn by gnuplot from a CSV.
#pragma once

#include <sys/wait.h>  // WIFEXITED, WEXITSTATUS

#include <algorithm>     // minmax_element, find
#include <cctype>        // isalnum, tolower
#include <cmath>         // pow, log10, floor, ceil
#include <cstdlib>       // system
#include <filesystem>    // path
#include <iterator>      // size
#include <stdexcept>     // runtime_error
#include <string>        // string
#include <system_error>  // error_code
#include <vector>        // vector

#include <fmt/format.h>
#include <fmt/ranges.h>          // join
#include <tiedlora/io/file.hpp>  // write_file

#include "write.hpp"

namespace count_parameters {
namespace detail {

/// "Llama-3-8B" as "llama-3-8b": letters, digits and '-', fit for a file name.
inline std::string slug(const std::string& name) {
  std::string text;
  for (const char c : name) {
    const auto letter = static_cast<unsigned char>(c);
    text += std::isalnum(letter) ? static_cast<char>(std::tolower(letter)) : '-';
  }
  return text;
}

/// Text as one word of gnuplot's language, and as one of the shell's.
inline std::string gnuplot_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "''" : c == '\n' ? " " : std::string(1, c);
  return quoted + "'";
}
inline std::string shell_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

/// Okabe and Ito's colours, which colour-blind readers tell apart; each line has a mark and dashes too.
inline std::string line_style(std::size_t i) {
  static constexpr const char* colours[] = {"#000000", "#E69F00", "#56B4E9", "#009E73",
                                            "#D55E00", "#0072B2", "#CC79A7"};
  static constexpr int marks[] = {5, 7, 9, 11, 13, 4, 6, 8, 10, 12};
  static constexpr const char* dashes[] = {"solid", "(12,6)", "(4,4)", "(12,4,3,4)"};
  return fmt::format("lc rgb '{}' pt {} dt {} lw 3 ps 1.6", colours[i % std::size(colours)],
                     marks[i % std::size(marks)], dashes[i % std::size(dashes)]);
}

/// The program for gnuplot that draws `base`.png and `base`.svg from `base`.csv.
inline std::string gnuplot_script(const Table& table, const std::string& base) {
  const auto [least, most] = std::minmax_element(table.ranks.begin(), table.ranks.end());
  const auto [fewest, largest] = std::minmax_element(
      table.rows.begin(), table.rows.end(), [](const Row& a, const Row& b) { return a.trained < b.trained; });
  // Whole decades, so that the axis has at least two labels.
  const double bottom = std::pow(10, std::floor(std::log10(static_cast<double>(fewest->trained))));
  const double top = std::pow(10, std::ceil(std::log10(static_cast<double>(largest->trained) + 1)));
  std::string script = fmt::format(
      R"(set datafile separator comma
set title {}
set xlabel 'rank'
set ylabel 'trainable parameters'
set logscale x 2
set logscale y 10
set xrange [{}:{}]
set yrange [{}:{}]
set xtics ({})
set format x '%g'
set format y '%.0s%c'
set grid xtics ytics mytics lt 1 lc rgb '#d0d0d0' lw 1, lt 1 lc rgb '#eeeeee' lw 1
set border 3
set tics nomirror
set key outside right center noenhanced spacing 1.4
)",
      gnuplot_quoted(fmt::format("{}: {} adapted", table.model.name, fmt::join(table.targets, ", "))),
      static_cast<double>(*least) / 1.4, static_cast<double>(*most) * 1.4, bottom, top,
      fmt::join(table.ranks, ", "));

  std::vector<std::string> lines;
  for (std::size_t i = 0; i < table.schemes.size(); ++i) {
    const std::string scheme = gnuplot_quoted(table.schemes[i]);
    lines.push_back(
        fmt::format("  {} skip 1 using (strcol(3) eq {} ? column(4) : NaN):5 with linespoints {} title {}",
                    gnuplot_quoted(base + ".csv"), scheme, line_style(i), scheme));
  }
  const auto draw = [&](const char* terminal, const char* ending) {
    script += fmt::format("\nset terminal {}\nset output {}\nplot \\\n{}\n", terminal,
                          gnuplot_quoted(base + ending), fmt::join(lines, ", \\\n"));
  };
  draw("pngcairo noenhanced size 1200,800 font 'sans,18'", ".png");
  draw("svg noenhanced size 900,600 font 'sans,14' background '#ffffff'", ".svg");
  return script;
}

/// Runs gnuplot on `base`.gnuplot; its messages go to our standard error. Returns false where it is not
/// installed. Where it fails, throws runtime_error and leaves no picture.
inline bool run_gnuplot(const std::string& base) {
  constexpr int not_found = 127;
  const std::string command = fmt::format("command -v gnuplot >/dev/null || exit {}; gnuplot {} >&2",
                                          not_found, shell_quoted(base + ".gnuplot"));
  const int status = std::system(command.c_str());
  if (status == 0) return true;
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_found) return false;
  std::error_code ignored;
  for (const char* ending : {".png", ".svg"}) std::filesystem::remove(base + ending, ignored);
  throw std::runtime_error(fmt::format("gnuplot failed on {}.gnuplot", base));
}

}  // namespace detail

/// Writes NAME.csv, NAME.gnuplot, NAME.png and NAME.svg of each table into the folder. Returns a line for
/// the user. Throws runtime_error where something cannot be written; a gnuplot that is not installed is only
/// mentioned in the line.
inline std::string plot(const std::vector<Table>& tables, const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    throw std::runtime_error(fmt::format("cannot make the folder {}: {}", folder.string(), error.message()));
  std::vector<std::string> names;
  for (const Table& table : tables) {
    std::string name = detail::slug(table.model.name);
    const auto is_taken = [&](const std::string& one) {
      return std::find(names.begin(), names.end(), one) != names.end();
    };
    for (int n = 2; is_taken(name); ++n) name = fmt::format("{}-{}", detail::slug(table.model.name), n);
    names.push_back(name);

    const std::string base = (folder / name).string();
    tiedlora::write_file(base + ".csv", to_csv({table}));
    tiedlora::write_file(base + ".gnuplot", detail::gnuplot_script(table, base));
    if (!detail::run_gnuplot(base))
      return fmt::format("note: gnuplot is not installed, so there is no picture; {}.csv has the data", base);
  }
  return fmt::format("wrote {}.csv, .gnuplot, .png and .svg", (folder / names.front()).string()) +
         (names.size() > 1 ? fmt::format(" and those of {} more", names.size() - 1) : "");
}

}  // namespace count_parameters
