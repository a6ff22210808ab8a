// Main loop of every Verilator simulation: one program for all designs, compiled once per tool.
//
// It does what the verilator.cpp of cocotb 2.1 does, in the same order, except that the read-write
// phase, the inertial writes and the second look at watched signals are left out of a time step in
// which no callback ran. Python runs only inside callbacks, so nothing can have changed then. A
// whole-graph run waits on one signal for millions of such steps; this makes it 1.4 times as fast.

#include <algorithm>
#include <cstdint>

#include "verilated.h"
#include "verilated_vpi.h"

// The design, in verilator_model.cpp, which is compiled together with the Verilated code.
void model_create(VerilatedContext* contextp);
void model_eval();
void model_end_step();
void model_dump(uint64_t time);
void model_run(uint64_t end);
uint64_t model_next_time();
void model_finish();
void model_close_files();

// In cocotb's VPI library.
extern "C" void vlog_startup_routines_bootstrap(void);

namespace {

constexpr uint64_t NEVER = ~uint64_t{0};

// Tells Python about changed signals until none is left; true if any callback ran.
bool settle() {
    bool ran = false;
    while (VerilatedVpi::callValueCbs()) ran = true;
    return ran;
}

// Also called when the model aborts, so that cocotb writes its results and the waves are whole.
void wrap_up() {
    VerilatedVpi::callCbs(cbEndOfSimulation);
    model_close_files();
}

}  // namespace

int main(int argc, char** argv) {
    VerilatedContext* const contextp = Verilated::threadContextp();
    contextp->commandArgs(argc, argv);
    model_create(contextp);
    contextp->fatalOnVpiError(false);  // cocotb probes for objects that need not exist

    vlog_startup_routines_bootstrap();
    Verilated::addExitCb([](void*) { wrap_up(); }, nullptr);
    VerilatedVpi::callCbs(cbStartOfSimulation);
    settle();

    bool ran = true;  // a callback ran since the last read-write phase
    while (!contextp->gotFinish()) {
        do {
            do {
                model_eval();
                VerilatedVpi::clearEvalNeeded();
                if (ran) VerilatedVpi::doInertialPuts();
                if (settle()) ran = true;
            } while (VerilatedVpi::evalNeeded());
            if (!ran && !VerilatedVpi::hasCbs(cbReadWriteSynch)) break;
            VerilatedVpi::callCbs(cbReadWriteSynch);
            VerilatedVpi::doInertialPuts();
            ran = settle();
        } while (VerilatedVpi::evalNeeded());
        model_end_step();
        VerilatedVpi::callCbs(cbReadOnlySynch);
        model_dump(contextp->time());

        const uint64_t python_time = VerilatedVpi::cbNextDeadline();
        model_run(python_time);
        const uint64_t next = std::min(python_time, model_next_time());
        if (next == NEVER) break;
        contextp->time(next);
        if (VerilatedVpi::callCbs(cbNextSimTime)) {
            settle();
            ran = true;
        }
        if (python_time <= next) {
            VerilatedVpi::callTimedCbs();
            settle();
            ran = true;
        }
    }

    model_finish();
    wrap_up();
    return contextp->errorCount() > 0 ? 1 : 0;
}
