// Pictures from the CSV files, drawn by gnuplot.
#pragma once

#include <filesystem>  // path
#include <string>      // string
#include <vector>      // vector

#include <finetune/train/sweep.hpp>  // SweepResult, SweepLog

#include "results.hpp"  // Comparison

namespace finetune {

/// As one argument of a shell; text that a shell takes as it is stays without quotes.
std::string shell_quoted(const std::string& text);

/// A string as gnuplot's single-quoted literal.
std::string gnuplot_quoted(const std::string& text);

/// The script that draws NAME.png and NAME.svg from a CSV file in its folder; `body` plots.
std::string plot_script(const std::string& name, const std::string& csv, int width, int height,
                        const std::string& body, const std::string& data_blocks = {});

/// Writes the script and runs gnuplot on it. Returns what went wrong, or nothing.
std::string draw(const std::filesystem::path& folder, const std::string& name, const std::string& script);

/// Loss against steps, of training and on the select split side by side.
std::string loss_script(const Comparison& comparison);

/// Draws both; returns what went wrong, or nothing.
std::string draw_comparison(const std::filesystem::path& folder, const Comparison& comparison);

std::string sweep_script(const SweepLog& log, const std::vector<SweepResult>& results);

}  // namespace finetune
