// The only code that knows the class of the design; the build includes it after the Verilated C++.
// SGQ_HW_WAVES is defined by the build: 1 when the design was Verilated with --trace-vcd, else 0.
// SGQ_HW_COVERAGE is defined by the build as well: 1 when lines and toggles are counted, else 0.
// SGQ_HW_CLOCK is defined for designs whose clock is made here: the name of that input.

#include <cstdint>

#include "Vtop.h"
#if SGQ_HW_WAVES
#include "verilated_vcd_c.h"
#endif
#if SGQ_HW_COVERAGE
#include "verilated_cov.h"
#endif

namespace {

// Never deleted: at exit the Verilated context, a static object, may already be gone.
Vtop* topp = nullptr;

#if SGQ_HW_WAVES
VerilatedVcdC* wavesp = nullptr;
#endif

}  // namespace

void model_create(VerilatedContext* contextp) {
    topp = new Vtop{contextp, ""};
#if SGQ_HW_WAVES
    contextp->traceEverOn(true);
    wavesp = new VerilatedVcdC;
    topp->trace(wavesp, 99);
    wavesp->open("dump.vcd");
#endif
}

void model_eval() { topp->eval_step(); }

void model_end_step() { topp->eval_end_step(); }

void model_dump([[maybe_unused]] uint64_t time) {
#if SGQ_HW_WAVES
    wavesp->dump(time);
#endif
}

#ifdef SGQ_HW_CLOCK

// Runs the design on its own for a while, but not to the time `end` or beyond.
void model_run(uint64_t end) {
    constexpr int EDGES = 4096;  // callbacks are looked at so rarely that it costs nothing
    VerilatedContext* const contextp = topp->contextp();
    uint64_t half_period = 1;  // a nanosecond, in units of the simulation's precision
    for (int precision = contextp->timeprecision(); precision < -9; ++precision) half_period *= 10;
    for (int edge = 0; edge < EDGES && !contextp->gotFinish(); ++edge) {
        const uint64_t time = (contextp->time() / half_period + 1) * half_period;
        if (time >= end) return;
        contextp->time(time);
        topp->SGQ_HW_CLOCK = !topp->SGQ_HW_CLOCK;
        topp->eval();
        model_dump(time);
    }
}

// Between two edges: there callbacks are looked at before the design goes on.
uint64_t model_next_time() { return topp->contextp()->time() + 1; }

#else

void model_run(uint64_t) {}

// Time of the next event that the design itself has scheduled, or the largest time if none.
uint64_t model_next_time() { return topp->eventsPending() ? topp->nextTimeSlot() : ~uint64_t{0}; }

#endif

void model_finish() { topp->final(); }

void model_close_files() {
#if SGQ_HW_WAVES
    wavesp->close();
#endif
#if SGQ_HW_COVERAGE
    topp->contextp()->coveragep()->write();
#endif
}
