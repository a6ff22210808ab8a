// The only code that knows the class of the design; the build includes it after the Verilated C++.
// SGQ_HW_WAVES is defined by the build when the design was Verilated with --trace-vcd.

#include <cstdint>

#include "Vtop.h"
#if SGQ_HW_WAVES
#include "verilated_vcd_c.h"
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

// Time of the next event that the design itself has scheduled, or the largest time if none.
uint64_t model_next_time() { return topp->eventsPending() ? topp->nextTimeSlot() : ~uint64_t{0}; }

void model_finish() { topp->final(); }

void model_close_waves() {
#if SGQ_HW_WAVES
    wavesp->close();
#endif
}
