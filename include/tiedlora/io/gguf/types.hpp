// What a GGUF file is made of: types of metadata values and of tensors.
#pragma once

#include <array>        // array
#include <cstddef>      // byte, size_t
#include <cstdint>      // int8_t ... uint64_t
#include <cstring>      // memcpy
#include <optional>     // optional
#include <span>         // span
#include <string_view>  // string_view
#include <type_traits>  // is_same, is_integral, is_signed
#include <vector>       // vector

#include "../../views/config.hpp"

TIEDLORA_BEGIN_NAMESPACE
namespace gguf {

/// Types of tensors, by ggml's number. Every number may stand in a file; those named here can be read and,
/// Q8_0 aside, written.
enum class Type : std::uint32_t { F32 = 0, F16 = 1, Q8_0 = 8, BF16 = 30 };

/// Types of metadata values, by GGUF's number.
enum class ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

/// The ValueType of a C++ type.
template <class T>
inline constexpr ValueType value_type_of = std::is_same_v<T, std::uint8_t>    ? ValueType::u8
                                           : std::is_same_v<T, std::int8_t>   ? ValueType::i8
                                           : std::is_same_v<T, std::uint16_t> ? ValueType::u16
                                           : std::is_same_v<T, std::int16_t>  ? ValueType::i16
                                           : std::is_same_v<T, std::uint32_t> ? ValueType::u32
                                           : std::is_same_v<T, std::int32_t>  ? ValueType::i32
                                           : std::is_same_v<T, float>         ? ValueType::f32
                                           : std::is_same_v<T, bool>          ? ValueType::boolean
                                           : std::is_same_v<T, std::uint64_t> ? ValueType::u64
                                           : std::is_same_v<T, std::int64_t>  ? ValueType::i64
                                           : std::is_same_v<T, double>        ? ValueType::f64
                                                                              : ValueType::text;

/// A metadata value, where it lies in the file. What asks for another type than it has gives nothing.
struct Value {
  ValueType type = ValueType::u8;     ///< of the value; ValueType::array for several
  ValueType element = ValueType::u8;  ///< of an array; else the same as type
  Index count = 1;                    ///< how many elements; 1 where it is not an array
  /// The values as they stand; the characters of a text; the elements of an array, texts in it with their
  /// lengths.
  std::span<const std::byte> bytes = {};

  /// The characters of a text.
  std::optional<std::string_view> text() const {
    if (type != ValueType::text) return std::nullopt;
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  /// An integer of any type that is not negative.
  std::optional<std::uint64_t> natural() const {
    std::optional<std::uint64_t> result;
    visit_number([&result](auto number) {
      if constexpr (std::is_integral_v<decltype(number)>)
        if (number >= decltype(number){0}) result = static_cast<std::uint64_t>(number);
    });
    return result;
  }

  /// A number of any type, rounded where a double cannot hold it.
  std::optional<double> number() const {
    std::optional<double> result;
    visit_number([&result](auto value) { result = static_cast<double>(value); });
    return result;
  }

  /// True or false.
  std::optional<bool> boolean() const {
    if (type != ValueType::boolean) return std::nullopt;
    return bytes[0] != std::byte{0};
  }

  /// The elements of an array of texts (a tokenizer's), as views into the file.
  std::optional<std::vector<std::string_view>> texts() const {
    if (type != ValueType::array || element != ValueType::text) return std::nullopt;
    std::vector<std::string_view> result;
    result.reserve(static_cast<std::size_t>(count));  // each has 8 bytes of length in the file
    for (std::span<const std::byte> rest = bytes; !rest.empty();) {
      std::uint64_t length = 0;
      std::memcpy(&length, rest.data(), sizeof length);
      rest = rest.subspan(sizeof length);
      result.emplace_back(reinterpret_cast<const char*>(rest.data()), static_cast<std::size_t>(length));
      rest = rest.subspan(static_cast<std::size_t>(length));
    }
    return result;
  }

  /// The elements of an array whose type is exactly T.
  template <class T>
  std::optional<std::vector<T>> numbers() const {
    static_assert(value_type_of<T> != ValueType::text && !std::is_same_v<T, bool>);
    if (type != ValueType::array || element != value_type_of<T>) return std::nullopt;
    std::vector<T> result(static_cast<std::size_t>(count));
    if (!result.empty()) std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  }

 private:
  template <class Function>
  void visit_number(Function function) const {
    const auto visit_as = [&]<class T>(T number) {
      if (type != value_type_of<T>) return;
      std::memcpy(&number, bytes.data(), sizeof number);
      function(number);
    };
    visit_as(std::uint8_t());
    visit_as(std::int8_t());
    visit_as(std::uint16_t());
    visit_as(std::int16_t());
    visit_as(std::uint32_t());
    visit_as(std::int32_t());
    visit_as(float());
    visit_as(std::uint64_t());
    visit_as(std::int64_t());
    visit_as(double());
  }
};

/// How ggml stores values of a type: in blocks.
struct TypeInfo {
  Type type;              ///< which one
  std::string_view name;  ///< as ggml has it, e.g. "Q4_0"
  Index block;            ///< values per block
  Index bytes;            ///< per block
};

/// The types of tensors that occur in files.
inline constexpr std::array<TypeInfo, 32> tensor_types = {{
    {Type::F32, "F32", 1, 4},       {Type::F16, "F16", 1, 2},       {Type{2}, "Q4_0", 32, 18},
    {Type{3}, "Q4_1", 32, 20},      {Type{6}, "Q5_0", 32, 22},      {Type{7}, "Q5_1", 32, 24},
    {Type::Q8_0, "Q8_0", 32, 34},   {Type{10}, "Q2_K", 256, 84},    {Type{11}, "Q3_K", 256, 110},
    {Type{12}, "Q4_K", 256, 144},   {Type{13}, "Q5_K", 256, 176},   {Type{14}, "Q6_K", 256, 210},
    {Type{16}, "IQ2_XXS", 256, 66}, {Type{17}, "IQ2_XS", 256, 74},  {Type{18}, "IQ3_XXS", 256, 98},
    {Type{19}, "IQ1_S", 256, 50},   {Type{20}, "IQ4_NL", 32, 18},   {Type{21}, "IQ3_S", 256, 110},
    {Type{22}, "IQ2_S", 256, 82},   {Type{23}, "IQ4_XS", 256, 136}, {Type{24}, "I8", 1, 1},
    {Type{25}, "I16", 1, 2},        {Type{26}, "I32", 1, 4},        {Type{27}, "I64", 1, 8},
    {Type{28}, "F64", 1, 8},        {Type{29}, "IQ1_M", 256, 56},   {Type::BF16, "BF16", 1, 2},
    {Type{34}, "TQ1_0", 256, 54},   {Type{35}, "TQ2_0", 256, 66},   {Type{39}, "MXFP4", 32, 17},
    {Type{40}, "NVFP4", 64, 36},    {Type{41}, "Q1_0", 128, 18},
}};

/// Null for a type that this library has not heard of.
constexpr const TypeInfo* find_type(Type type) {
  for (const TypeInfo& info : tensor_types)
    if (info.type == type) return &info;
  return nullptr;
}
/// What ggml calls the type; "?" where it is unknown.
constexpr std::string_view to_string(Type type) {
  const TypeInfo* info = find_type(type);
  return info ? info->name : "?";
}

}  // namespace gguf
TIEDLORA_END_NAMESPACE
