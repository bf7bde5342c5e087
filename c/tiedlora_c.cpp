// The C interface over the C++ library: the one file to compile for it, with Eigen and nlohmann/json. Every
// function is a translation of its arguments, a call of the library, and a border that no exception crosses.
#include "tiedlora.h"

#include <algorithm>    // min
#include <cstddef>      // byte, size_t
#include <cstdint>      // uint64_t
#include <cstring>      // memcpy
#include <exception>    // exception
#include <filesystem>   // path
#include <memory>       // make_shared, make_unique, shared_ptr, unique_ptr
#include <new>          // bad_alloc
#include <span>         // span
#include <stdexcept>    // length_error
#include <string>       // string
#include <string_view>  // string_view
#include <tiedlora/io.hpp>
#include <tiedlora/tiedlora.hpp>
#include <type_traits>  // is_same, type_identity
#include <utility>      // forward, move
#include <variant>      // variant, visit
#include <vector>       // vector

namespace tl = tiedlora;
using tl::detail::in_quotes;
using tl::detail::message;

static_assert(TIEDLORA_EXCEPTIONS, "the C interface turns exceptions into codes: compile it with exceptions");
static_assert(TL_VERSION_MAJOR == TIEDLORA_VERSION_MAJOR && TL_VERSION_MINOR == TIEDLORA_VERSION_MINOR &&
                  TL_VERSION_PATCH == TIEDLORA_VERSION_PATCH,
              "tiedlora.h and the C++ headers are of different versions");
static_assert(std::is_same_v<tl_index, tl::Index> && std::is_same_v<tl_id, tl::AdapterId> &&
              TL_NO_ADAPTER == tl::no_adapter);

// In the order of TL_F32, TL_F16, TL_BF16.
template <template <class> class Of>
using OfAnyType = std::variant<Of<float>, Of<Eigen::half>, Of<Eigen::bfloat16>>;
template <class P>
using SharedAdapter = std::shared_ptr<tl::Adapter<P>>;  // shared with the sets that it was added to
template <class P>
using OwnSet = std::unique_ptr<tl::AdapterSet<P>>;

struct tl_modules {
  tl::ModuleList list;
};
struct tl_adapter {
  OfAnyType<SharedAdapter> numbers;
  tl::Provenance source = {};
  std::string report = {};
};
struct tl_set {
  OfAnyType<OwnSet> adapters;
};
struct tl_plan {
  OfAnyType<tl::BatchPlan> batch;
  std::vector<tl::AdapterUse> uses = {};  // the memory of tl_plan_assign
};

namespace {

// ---- The border ----

// No std::string: what says that memory has run out must not need any.
thread_local char last_error[2048];

tl_status refuse(tl_status status, std::string_view text) {
  constexpr std::string_view prefix = "tiedlora: ";
  if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
  std::size_t size = std::min(text.size(), sizeof last_error - 1);
  while (size > 0 && size < text.size() && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  std::memcpy(last_error, text.data(), size);
  last_error[size] = 0;
  return status;
}

struct FileFailure {
  std::string message;
};

// A Result of what reads or writes files.
template <class T>
T value_of(tl::Result<T> result) {
  if (!result) throw FileFailure{result.error()};
  return *std::move(result);
}

// Runs the body of a function of the interface.
template <class Body>
tl_status at_border(const Body& body) noexcept {
  try {
    body();
    return TL_OK;
  } catch (const FileFailure& failure) {
    return refuse(TL_ERROR_FILE, failure.message);
  } catch (const tl::Error& error) {
    return refuse(TL_ERROR_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return refuse(TL_ERROR_MEMORY, "out of memory");
  } catch (const std::length_error&) {
    return refuse(TL_ERROR_MEMORY, "the size asked for does not fit in the address space");
  } catch (const std::exception& error) {
    return refuse(TL_ERROR_INTERNAL, error.what());
  } catch (...) {
    return refuse(TL_ERROR_INTERNAL, "an unknown exception");
  }
}

// ---- Arguments ----

template <class T>
T& given(T* pointer, const char* what) {
  if (!pointer) tl::detail::fail(what, " is NULL");
  return *pointer;
}

// Where a new handle goes: NULL until there is one.
template <class Handle>
Handle*& place_for(Handle** handle, const char* what) {
  return given(handle, what) = nullptr;
}

// The size of a struct's first version, the least that a caller may have: a struct that grows gets a
// specialisation with what it was.
template <class Struct>
constexpr std::size_t first_size = sizeof(Struct);

// More than any version's struct will have: a size that nobody set, and whose bytes are not the caller's to
// read.
inline constexpr std::size_t largest_size = 1024;

template <class Struct>
void check_size(std::size_t size, const char* what) {
  if (size < first_size<Struct> || size > largest_size)
    tl::detail::fail(what, "->size is ", size, "; it must be sizeof the struct, at least ",
                     first_size<Struct>);
}

// A struct as this library knows it, of a caller who may know more or less of it. What such a caller does not
// know keeps its default.
template <class Struct>
Struct read_struct(const Struct& from, const char* what, Struct result = {}) {
  check_size<Struct>(from.size, what);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&from);
  for (std::size_t i = sizeof(Struct); i < from.size; ++i)
    if (bytes[i] != 0)
      tl::detail::fail(what, " sets fields of a newer version than this library, ", tl_version());
  std::memcpy(&result, &from, std::min(from.size, sizeof(Struct)));
  return result;
}
// The other way round: fills what the caller's struct has room for.
template <class Struct>
void write_struct(Struct* to, Struct result, const char* what) {
  const std::size_t size = given(to, what).size;
  check_size<Struct>(size, what);
  result.size = size;
  std::memset(static_cast<void*>(to), 0, size);  // what only a newer version fills
  std::memcpy(static_cast<void*>(to), &result, std::min(size, sizeof(Struct)));
}

template <class T>
using Type = std::type_identity<T>;

// body(Type<T>()) with the type that a number stands for.
template <class Body>
auto with_type(tl_type type, const char* what, const Body& body) {
  if (type == TL_F16) return body(Type<Eigen::half>());
  if (type == TL_BF16) return body(Type<Eigen::bfloat16>());
  if (type != TL_F32)
    tl::detail::fail(what, " has the type ", type, ", which is not one of TL_F32, TL_F16 and TL_BF16");
  return body(Type<float>());
}

// The same views in C and in C++, except for the type of what they point to.
template <class T>
tl::Tokens<const T> tokens_of(const tl_input& x) {
  return {static_cast<const T*>(x.data), x.width, x.count, x.stride, x.rows};
}
template <class T>
tl::Tokens<T> tokens_of(const tl_output& y) {
  return {static_cast<T*>(y.data), y.width, y.count, y.stride, y.rows};
}

// body(tokens) with a view of the type that the caller's struct says.
template <class View, class Body>
void with_tokens(const View* view, const char* what, const Body& body) {
  const View read = read_struct(given(view, what), what);
  with_type(read.type, what, [&](auto type) { body(tokens_of<typename decltype(type)::type>(read)); });
}
// h, which is of floats.
template <class View>
auto hidden(const View* h) {
  const View read = read_struct(given(h, "h"), "h");
  if (read.type != TL_F32) tl::detail::fail("h has the type ", read.type, "; it must be TL_F32");
  return tokens_of<float>(read);
}

tl::CallOptions call_options(const tl_options* options) {
  tl_options o = TL_OPTIONS_INIT;
  if (options) o = read_struct(*options, "options", o);
  if (!o.scratch && o.scratch_bytes > 0)
    tl::detail::fail("options->scratch is NULL, but scratch_bytes is ", o.scratch_bytes);
  return {.scale = o.scale,
          .token_scale = o.token_scale,
          .overwrite = o.overwrite != 0,
          .slice = {o.ith, o.nth},
          .scratch = {static_cast<std::byte*>(o.scratch), o.scratch_bytes}};
}

std::filesystem::path path_of(const char* path) { return tl::detail::path_of_utf8(&given(path, "path")); }

// ---- Handles ----

// body(const Adapter<P>&) with the type that the adapter has.
template <class Body>
auto with_adapter(const tl_adapter* adapter, const Body& body) {
  return std::visit([&](const auto& numbers) { return body(std::as_const(*numbers)); },
                    given(adapter, "adapter").numbers);
}
const tl::Layout& layout_of(const tl_adapter* adapter) {
  return *with_adapter(adapter, [](const auto& a) { return &a.layout(); });
}

// Not `new` at the border itself: clang-tidy sees a function that may not throw there.
template <class Handle, class... Parts>
Handle* new_handle(Parts&&... parts) {
  return new Handle{std::forward<Parts>(parts)...};
}
template <class P>
tl_adapter* new_adapter(tl::Adapter<P> adapter, tl::Provenance source = {}, std::string report = {}) {
  auto numbers = std::make_shared<tl::Adapter<P>>(std::move(adapter));
  return new_handle<tl_adapter>(std::move(numbers), std::move(source), std::move(report));
}

// body(set) with the set of the same type as the plan.
template <class P>
const tl::AdapterSet<P>& set_of_type(const tl_set* set) {
  const auto* adapters = std::get_if<OwnSet<P>>(&given(set, "set").adapters);
  if (!adapters) tl::detail::fail("the plan and the set must be of the same type");
  return **adapters;
}

tl_module describe(const tl::Module& module) {
  return {sizeof(tl_module),
          module.name.c_str(),
          module.kind.c_str(),
          module.input.c_str(),
          module.layer,
          module.in_features,
          module.out_features,
          0,
          0,
          0};
}

tl::Scheme scheme_named(std::string_view name) {
  if (const auto scheme = tl::schemes::named(name)) return *scheme;
  tl::detail::fail(message("scheme ", in_quotes(name), " is not one of ", tl::schemes::names(),
                           ", G a positive number of layers"));
}

// ---- Files ----

// What a reader left out is an error unless the caller wants the rest.
template <class Report>
std::string report_of(const Report& report, const std::filesystem::path& path, bool partial) {
  if (!report.unused.empty() && !partial)
    throw FileFailure{message(in_quotes(tl::detail::utf8(path)), ": ", report.unused.size(),
                              " tensors cannot be applied, the first is ", in_quotes(report.unused.front()),
                              " (another base model? tl_load_options.partial loads the rest)")};
  std::string text;
  const auto say = [&text](const char* what, const std::vector<std::string>& lines) {
    for (const std::string& line : lines) text += what + tl::detail::escaped(line) + "\n";
  };
  say("not applied: ", report.unused);
  say("not in the file: ", report.missing);
  if constexpr (requires { report.base_weights; })
    say("not used, nor compared with the base's: a copy of the base model's weight, ", report.base_weights);
  say("", report.notes);
  return text;
}

tl::gguf::Naming naming_of(const tl_load_options& options, const std::filesystem::path& path) {
  if (options.gguf == TL_GGUF_AS_IN_FILE) return tl::gguf::as_in_file();
  if (options.gguf != TL_GGUF_TRANSFORMERS && options.gguf != TL_GGUF_TRANSFORMERS_NAMES)
    tl::detail::fail("options->gguf is ", options.gguf, ", which is not one of TL_GGUF_...");
  const auto source = value_of(tl::gguf::try_source(value_of(tl::gguf::try_open(path))));
  const auto* architecture = tl::gguf::find_architecture(source.architecture);
  if (!architecture)
    throw FileFailure{message(
        in_quotes(tl::detail::utf8(path)), " is for the architecture ", in_quotes(source.architecture),
        ", whose names in transformers are not known; load it with TL_GGUF_AS_IN_FILE")};
  const auto order =
      options.gguf == TL_GGUF_TRANSFORMERS ? tl::gguf::Order::hugging_face : tl::gguf::Order::gguf;
  return tl::gguf::naming_of(*architecture,
                             {.heads = options.heads, .kv_heads = options.kv_heads, .weights = order});
}

template <class P>
tl_adapter* load(const std::filesystem::path& path, const tl::ModuleList* modules,
                 const tl_load_options& options) {
  const bool partial = options.partial != 0;
  const auto [kind, what] = tl::sniff(path);
  if (kind == tl::FileKind::peft_folder) {
    const tl::PeftLoadOptions peft = {.partial = partial};
    auto loaded =
        value_of(modules ? tl::try_load_peft<P>(path, *modules, peft) : tl::try_load_peft<P>(path, peft));
    std::string report = report_of(loaded.report, path, partial);
    return new_adapter(std::move(loaded.adapter), loaded.config.source(), std::move(report));
  }
  if (kind == tl::FileKind::gguf) {
    const tl::gguf::Naming naming = naming_of(options, path);
    const tl::GgufLoadOptions gguf = {.partial = partial};
    auto loaded = value_of(modules ? tl::try_load_gguf<P>(path, *modules, naming, gguf)
                                   : tl::try_load_gguf<P>(path, naming, gguf));
    std::string report = report_of(loaded.report, path, partial);
    return new_adapter(std::move(loaded.adapter), std::move(loaded.source), std::move(report));
  }
  const bool is_known = kind != tl::FileKind::unknown && kind != tl::FileKind::missing;
  if (is_known && kind != tl::FileKind::native)
    throw FileFailure{
        tl::detail::unexpected(path, what, "a native file of tiedlora, a PEFT folder or a GGUF adapter")
            .message};
  const tl::NativeLoadOptions native = {.modules = modules};
  const tl::NativeFile file = value_of(tl::try_open_native(path, native));
  auto adapter = value_of(tl::try_read_adapter<P>(file, native));
  tl::Provenance source = file.metadata.source;
  source.base_model = file.metadata.base_model;
  return new_adapter(std::move(adapter), std::move(source));
}

// ---- Batches ----

// Rebuilds the plan from the set as it is now; `fill` writes the uses.
template <class Fill>
void assign(tl_plan* plan, const tl_set* set, tl_index tokens, tl_index uses, const tl_id* adapters,
            const Fill& fill) {
  std::visit(
      [&]<class P>(tl::BatchPlan<P>& batch) {
        batch.assign({}, 0, {});  // without tokens, unless all goes well
        if (uses < 0) tl::detail::fail("a batch cannot have ", uses, " tokens or uses of adapters");
        if (uses > 0) given(adapters, "adapters");
        plan->uses.resize(static_cast<std::size_t>(uses));
        for (std::size_t i = 0; i < plan->uses.size(); ++i) plan->uses[i] = fill(i);
        batch.assign(set_of_type<P>(set).snapshot(), tokens, plan->uses);
      },
      given(plan, "plan").batch);
}

template <class Body>
void with_plan(const tl_plan* plan, const Body& body) {
  std::visit(body, given(plan, "plan").batch);
}

}  // namespace

// ---- The interface, in the order of tiedlora.h ----

const char* tl_last_error() noexcept { return last_error; }
int tl_version() noexcept { return TL_VERSION; }
const char* tl_kernel_isa() noexcept { return tl::kernel_isa(); }

tl_status tl_modules_new(tl_modules** modules) noexcept {
  return at_border([&] {
    tl_modules*& result = place_for(modules, "modules");  // before there is one to lose
    result = new_handle<tl_modules>();
  });
}
void tl_modules_free(tl_modules* modules) noexcept { delete modules; }
tl_status tl_modules_add(tl_modules* modules, const char* name, int layer, const char* kind,
                         const char* input, tl_index in_features, tl_index out_features,
                         tl_index* index) noexcept {
  return at_border([&] {
    const tl_index added = given(modules, "modules")
                               .list.add({.name = &given(name, "name"),
                                          .layer = layer,
                                          .kind = kind ? kind : "",
                                          .input = input ? input : "",
                                          .in_features = in_features,
                                          .out_features = out_features});
    if (index) *index = added;
  });
}
tl_status tl_modules_of_model(const char* path, tl_modules** modules) noexcept {
  return at_border([&] {
    tl_modules*& result = place_for(modules, "modules");
    result = new_handle<tl_modules>(value_of(tl::try_model_modules(path_of(path))));
  });
}
tl_index tl_modules_count(const tl_modules* modules) noexcept { return modules ? modules->list.size() : 0; }
tl_status tl_modules_get(const tl_modules* modules, tl_index m, tl_module* module) noexcept {
  return at_border([&] { write_struct(module, describe(given(modules, "modules").list[m]), "module"); });
}

tl_status tl_adapter_new(const tl_modules* modules, const char* scheme, tl_index rank, double scaling,
                         tl_type type, tl_adapter** adapter) noexcept {
  return at_border([&] {
    tl_adapter*& result = place_for(adapter, "adapter");
    const tl::Layout layout(given(modules, "modules").list, scheme_named(&given(scheme, "scheme")), rank,
                            {.scaling = scaling});
    result =
        with_type(type, "the adapter", [&]<class P>(Type<P>) { return new_adapter(tl::Adapter<P>(layout)); });
  });
}
tl_status tl_adapter_load(const char* path, const tl_modules* modules, const tl_load_options* options,
                          tl_adapter** adapter) noexcept {
  return at_border([&] {
    tl_adapter*& result = place_for(adapter, "adapter");
    tl_load_options o = TL_LOAD_OPTIONS_INIT;
    if (options) o = read_struct(*options, "options", o);
    result = with_type(o.type, "the adapter", [&]<class P>(Type<P>) {
      return load<P>(path_of(path), modules ? &modules->list : nullptr, o);
    });
  });
}
tl_status tl_adapter_save(const tl_adapter* adapter, const char* path, const char* base_model) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&](const auto& a) {
      value_of(tl::try_save_adapter(path_of(path), a,
                                    {.base_model = base_model ? base_model : "", .source = adapter->source}));
    });
  });
}
void tl_adapter_free(tl_adapter* adapter) noexcept { delete adapter; }
tl_status tl_adapter_initialize(tl_adapter* adapter, std::uint64_t seed) noexcept {
  return at_border([&] {
    std::visit([&](const auto& numbers) { numbers->initialize(seed); }, given(adapter, "adapter").numbers);
  });
}
tl_status tl_adapter_cast(const tl_adapter* adapter, tl_type type, tl_adapter** copy) noexcept {
  return at_border([&] {
    tl_adapter*& result = place_for(copy, "copy");
    result = with_adapter(adapter, [&](const auto& a) {
      return with_type(type, "the copy", [&]<class Q>(Type<Q>) {
        return new_adapter(a.template cast<Q>(), adapter->source, adapter->report);
      });
    });
  });
}
tl_index tl_adapter_count(const tl_adapter* adapter) noexcept {
  return adapter ? layout_of(adapter).size() : 0;
}
tl_status tl_adapter_module(const tl_adapter* adapter, tl_index m, tl_module* module) noexcept {
  return at_border([&] {
    const tl::Layout& layout = layout_of(adapter);
    tl_module result = describe(layout.modules()[m]);
    result.rank = layout.rank(m);
    result.scaling = layout.scaling(m);
    result.backward_needs_x = layout.backward_needs_x(m);
    write_struct(module, result, "module");
  });
}
tl_status tl_adapter_find(const tl_adapter* adapter, const char* name, tl_index* m) noexcept {
  return at_border([&] { given(m, "m") = layout_of(adapter).modules().find(&given(name, "name")); });
}
tl_status tl_adapter_modules(const tl_adapter* adapter, tl_modules** modules) noexcept {
  return at_border([&] {
    tl_modules*& result = place_for(modules, "modules");
    result = new_handle<tl_modules>(layout_of(adapter).modules());
  });
}
const char* tl_adapter_base_model(const tl_adapter* adapter) noexcept {
  return adapter ? adapter->source.base_model.c_str() : "";
}
const char* tl_adapter_report(const tl_adapter* adapter) noexcept {
  return adapter ? adapter->report.c_str() : "";
}
tl_status tl_adapter_trainable(tl_adapter* adapter, void** data, tl_index* count) noexcept {
  return at_border([&] {
    std::visit(
        [&](const auto& numbers) {
          given(data, "data");
          given(count, "count") = numbers->layout().trainable_count();
          *data = numbers->trainable().data();
        },
        given(adapter, "adapter").numbers);
  });
}
tl_status tl_adapter_frozen(const tl_adapter* adapter, const void** data, tl_index* count) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&](const auto& a) {
      given(data, "data");
      given(count, "count") = a.layout().frozen_count();
      *data = a.frozen().data();
    });
  });
}
tl_status tl_adapter_type(const tl_adapter* adapter, tl_type* type) noexcept {
  return at_border(
      [&] { given(type, "type") = static_cast<tl_type>(given(adapter, "adapter").numbers.index()); });
}
tl_status tl_adapter_factors(const tl_adapter* adapter, tl_index m, tl_factors* factors) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&](const auto& a) {
      const auto f = a.factors(m);
      const tl_factors result = {sizeof(tl_factors),
                                 f.A,
                                 f.a_stride,
                                 f.B,
                                 f.b_stride,
                                 f.u,
                                 f.v,
                                 static_cast<double>(f.scaling),
                                 f.rank,
                                 f.in_features,
                                 f.out_features};
      write_struct(factors, result, "factors");
    });
  });
}

tl_status tl_shrink(const tl_adapter* adapter, tl_index m, const tl_input* x, const tl_output* h,
                    const tl_options* options) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&](const auto& a) {
      const auto f = a.factors(m);
      with_tokens(x, "x", [&](const auto& xs) { tl::shrink(f, xs, hidden(h), call_options(options)); });
    });
  });
}
tl_status tl_expand(const tl_adapter* adapter, tl_index m, const tl_input* h, const tl_output* y,
                    const tl_options* options) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&](const auto& a) {
      const auto f = a.factors(m);
      with_tokens(y, "y", [&](const auto& ys) { tl::expand(f, hidden(h), ys, call_options(options)); });
    });
  });
}
tl_status tl_forward(const tl_adapter* adapter, tl_index m, const tl_input* x, const tl_output* y,
                     const tl_output* h, const tl_options* options) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&](const auto& a) {
      const auto f = a.factors(m);
      with_tokens(x, "x", [&](const auto& xs) {
        with_tokens(y, "y", [&](const auto& ys) {
          if (h)
            tl::forward(f, xs, ys, hidden(h), call_options(options));
          else
            tl::forward(f, xs, ys, call_options(options));
        });
      });
    });
  });
}
tl_status tl_backward(const tl_adapter* adapter, tl_index m, const tl_input* x, const tl_input* h,
                      const tl_input* dy, float* gradients, const tl_output* dx,
                      const tl_options* options) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&]<class P>(const tl::Adapter<P>& a) {
      const auto f = a.factors(m);
      const auto gradient = tl::gradients_at(a.layout(), m, gradients);
      const tl::CallOptions o = call_options(options);
      const tl_input xs = x ? read_struct(*x, "x") : tl_input{};
      const tl_output dxs = dx ? read_struct(*dx, "dx") : tl_output{};
      if (x && dx && xs.type != dxs.type)
        tl::detail::fail("dx has the type ", dxs.type, ", but x has ", xs.type,
                         "; they must have the same type");
      with_type(x ? xs.type : dxs.type, x ? "x" : "dx", [&]<class X>(Type<X>) {
        with_tokens(dy, "dy", [&](const auto& dys) {
          // What backward does, with x and dx that are there or not as the call says.
          const tl::Tokens<const float> hs = hidden(h);
          const tl::Tokens<const X> x_tokens = tokens_of<X>(xs);
          const tl::Tokens<X> dx_tokens = tokens_of<X>(dxs);
          tl::detail::check_backward<tl::CpuBackend>(f, x_tokens, x != nullptr, hs, dys, gradient, dx_tokens,
                                                     dx != nullptr, o);
          tl::unchecked::backward(tl::CpuBackend(), f, x_tokens, hs, dys, gradient, dx_tokens, o);
        });
      });
    });
  });
}
tl_status tl_merge(const tl_adapter* adapter, tl_index m, void* weight, tl_type type, tl_index rows,
                   tl_index columns, tl_index row_stride, tl_index column_stride, double scale) noexcept {
  return at_border([&] {
    with_adapter(adapter, [&](const auto& a) {
      with_type(type, "the weight", [&]<class W>(Type<W>) {
        tl::merge(a.factors(m),
                  tl::Weight<W>{static_cast<W*>(weight), rows, columns, row_stride, column_stride}, scale);
      });
    });
  });
}

tl_status tl_set_new(const tl_modules* modules, tl_type type, tl_set** set) noexcept {
  return at_border([&] {
    tl_set*& result = place_for(set, "set");
    const tl::ModuleList& list = given(modules, "modules").list;
    result = with_type(type, "the set", [&]<class P>(Type<P>) {
      return new_handle<tl_set>(std::make_unique<tl::AdapterSet<P>>(list));
    });
  });
}
void tl_set_free(tl_set* set) noexcept { delete set; }
tl_status tl_set_add(tl_set* set, const tl_adapter* adapter, tl_id* id) noexcept {
  return at_border([&] {
    given(id, "id");
    std::visit(
        [&]<class P>(const OwnSet<P>& adapters) {
          const auto* numbers = std::get_if<SharedAdapter<P>>(&given(adapter, "adapter").numbers);
          if (!numbers)
            tl::detail::fail(
                "the adapter's type differs from the set's; tl_adapter_cast makes a copy in the set's type");
          *id = adapters->add(std::shared_ptr<const tl::Adapter<P>>(*numbers));
        },
        given(set, "set").adapters);
  });
}
tl_status tl_set_remove(tl_set* set, tl_id id) noexcept {
  return at_border([&] {
    std::visit(
        [&](const auto& adapters) {
          if (!adapters->remove(id)) tl::detail::fail("there is no ", adapters->snapshot().describe(id));
        },
        given(set, "set").adapters);
  });
}
tl_index tl_set_count(const tl_set* set) noexcept {
  return set ? std::visit([](const auto& adapters) { return adapters->size(); }, set->adapters) : 0;
}

tl_status tl_plan_new(const tl_set* set, tl_plan** plan) noexcept {
  return at_border([&] {
    tl_plan*& result = place_for(plan, "plan");
    result = std::visit([]<class P>(const OwnSet<P>&) { return new_handle<tl_plan>(tl::BatchPlan<P>()); },
                        given(set, "set").adapters);
  });
}
void tl_plan_free(tl_plan* plan) noexcept { delete plan; }
tl_status tl_plan_assign(tl_plan* plan, const tl_set* set, tl_index tokens, const tl_id* adapters,
                         const float* scales) noexcept {
  return at_border([&] {
    assign(plan, set, tokens, tokens, adapters, [&](std::size_t i) {
      return tl::AdapterUse{static_cast<tl_index>(i), adapters[i], scales ? scales[i] : 1};
    });
  });
}
tl_status tl_plan_assign_uses(tl_plan* plan, const tl_set* set, tl_index tokens, tl_index uses,
                              const tl_index* token_of, const tl_id* adapters, const float* scales) noexcept {
  return at_border([&] {
    assign(plan, set, tokens, uses, adapters, [&](std::size_t i) {
      return tl::AdapterUse{(&given(token_of, "token_of"))[i], adapters[i], scales ? scales[i] : 1};
    });
  });
}
tl_status tl_plan_room(const tl_plan* plan, tl_index* width, tl_index* count) noexcept {
  return at_border([&] {
    with_plan(plan, [&](const auto& batch) {
      given(width, "width");
      given(count, "count") = batch.size();
      *width = batch.max_rank();
    });
  });
}
tl_status tl_plan_shrink(const tl_plan* plan, tl_index m, const tl_input* x, const tl_output* h,
                         const tl_options* options) noexcept {
  return at_border([&] {
    with_plan(plan, [&](const auto& batch) {
      with_tokens(x, "x",
                  [&](const auto& xs) { tl::shrink(batch, m, xs, hidden(h), call_options(options)); });
    });
  });
}
tl_status tl_plan_expand(const tl_plan* plan, tl_index m, const tl_input* h, const tl_output* y,
                         const tl_options* options) noexcept {
  return at_border([&] {
    with_plan(plan, [&](const auto& batch) {
      with_tokens(y, "y",
                  [&](const auto& ys) { tl::expand(batch, m, hidden(h), ys, call_options(options)); });
    });
  });
}
tl_status tl_plan_forward(const tl_plan* plan, tl_index m, const tl_input* x, const tl_output* y,
                          const tl_output* h, const tl_options* options) noexcept {
  return at_border([&] {
    with_plan(plan, [&](const auto& batch) {
      with_tokens(x, "x", [&](const auto& xs) {
        with_tokens(y, "y",
                    [&](const auto& ys) { tl::forward(batch, m, xs, ys, hidden(h), call_options(options)); });
      });
    });
  });
}
