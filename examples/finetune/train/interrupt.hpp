// What Ctrl-C and its like do to a run.
#pragma once

#include <atomic>   // atomic
#include <csignal>  // sigset_t, sigemptyset, sigaddset, SIGINT
#include <thread>   // thread

#include <pthread.h>  // pthread_kill, pthread_sigmask
#include <unistd.h>   // _exit

namespace finetune {

/// Ctrl-C, what a service manager or a batch system sends before it kills, and what mpirun passes on.
inline sigset_t stop_signals() {
  sigset_t signals = {};
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR2}) sigaddset(&signals, signal);
  return signals;
}

/// While one exists, this thread does not get them, nor do those that it starts.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    const sigset_t signals = stop_signals();
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_ = {};
};

/// While one exists, the first of these signals only raises a flag, so that the step in progress ends and its
/// result is kept; a second Ctrl-C ends the program at once.
///
/// No thread has a signal handler: oneDNN's generated products keep their stack pointer in the heap for a
/// while, and what a handler puts on the stack would overwrite it. A thread waits for the signal instead, and
/// those that are started while an Interrupt exists, and the one that makes it, do not get it. So make it
/// first.
class Interrupt {
 public:
  Interrupt() : waiting_([this] { wait(); }) {}
  ~Interrupt() {
    ends_ = true;
    pthread_kill(waiting_.native_handle(), SIGUSR2);
    waiting_.join();
  }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool requested() { return requested_; }
  static constexpr int exit_status = 130;  ///< by the shell's convention, 128 + SIGINT

 private:
  void wait() const {
    const sigset_t signals = stop_signals();
    for (int signal = 0; sigwait(&signals, &signal) == 0 && !ends_;)
      if (requested_.exchange(true) && signal == SIGINT) _exit(exit_status);
  }

  static inline std::atomic<bool> requested_ = false;
  std::atomic<bool> ends_ = false;
  const SignalsBlocked blocked_;
  std::thread waiting_;
};

}  // namespace finetune
