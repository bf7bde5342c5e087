// Ctrl-C, in processes of their own.
#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include <unistd.h>
#include <finetune/train/interrupt.hpp>

namespace finetune {
namespace {

void press_ctrl_c() { ::kill(getpid(), SIGINT); }
void wait_for_request() {
  while (!Interrupt::requested()) std::this_thread::yield();
}

TEST(Interrupt, RaisesAFlagAndHandlesNoSignal) {
  const auto run = [] {
    {
      const auto handler = [] {
        struct sigaction action = {};
        sigaction(SIGINT, nullptr, &action);
        return action.sa_handler;
      };
      const auto before = handler();  // what starts a program may have it ignored
      const Interrupt interrupt;
      if (handler() != before) _exit(1);
      press_ctrl_c();
      wait_for_request();
    }
    sigset_t blocked = {};
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    _exit(sigismember(&blocked, SIGINT) == 0 ? 0 : 2);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "");
}

TEST(Interrupt, TheSecondEndsTheProgram) {
  const auto run = [] {
    const Interrupt interrupt;
    press_ctrl_c();
    wait_for_request();
    press_ctrl_c();
    for (;;) pause();
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(Interrupt::exit_status), "");
}

// As a service manager, a batch system or mpirun sends them, some twice.
TEST(Interrupt, OtherSignalsRaiseTheFlagAndMayComeAgain) {
  const auto run = [] {
    const Interrupt interrupt;
    ::kill(getpid(), SIGTERM);
    wait_for_request();
    for (const int signal : {SIGTERM, SIGUSR2}) {
      ::kill(getpid(), signal);
      for (sigset_t pending = {}; sigpending(&pending) == 0 && sigismember(&pending, signal);)
        std::this_thread::yield();
    }
    _exit(0);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace finetune
