// What Ctrl-C does to a run.
#pragma once

#include <atomic>   // atomic
#include <csignal>  // sigset_t, sigemptyset, sigaddset, SIGINT
#include <thread>   // thread

#include <pthread.h>  // pthread_kill, pthread_sigmask
#include <unistd.h>   // _exit

namespace finetune {

/// While one exists, the first Ctrl-C only raises a flag, so that the step in progress ends and its result is
/// kept; a second one ends the program at once.
///
/// No thread has a signal handler: oneDNN's generated products keep their stack pointer in the heap for a
/// while, and what a handler puts on the stack would overwrite it. A thread waits for the signal instead, and
/// those that are started while an Interrupt exists, and the one that makes it, do not get it. So make it
/// first.
class Interrupt {
 public:
  Interrupt() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
    waiting_ = std::thread([this] { wait(); });
  }
  ~Interrupt() {
    ends_ = true;
    pthread_kill(waiting_.native_handle(), SIGINT);
    waiting_.join();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool requested() { return requested_; }
  static constexpr int exit_status = 130;  ///< of a program that ends so: the shell's custom, 128 + SIGINT

 private:
  void wait() const {
    for (int signal = 0; sigwait(&signals_, &signal) == 0 && !ends_;)
      if (requested_.exchange(true)) _exit(exit_status);
  }

  static inline std::atomic<bool> requested_ = false;
  std::atomic<bool> ends_ = false;
  sigset_t signals_ = {}, before_ = {};
  std::thread waiting_;
};

}  // namespace finetune
