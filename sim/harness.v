// sgq_harness: runs whole graphs through the accelerator at full simulation speed
//
// Function:   feeds packets from files, compares every word that a pass writes and every beat that
//             leaves with the golden model's, counts what differs or is missing.
// Files:      jobN_settings.hex, jobN_stream.bin, jobN_resultsP.bin, jobN_output.bin in the working
//             folder for N = 0 .. jobs - 1 (plusarg +jobs); writes harness_report.txt.
// Clock:      an input on Verilator, toggled by the main program, and made here elsewhere. Nothing
//             else here waits: processes that do cost as much time as the accelerator itself.
//
// jobN_settings.hex: input gap / 256, output stall / 256, seed, expected output beats,
//                    expected result words, all hexadecimal.
// The others are binary, records without gaps, fields of whole bytes, most significant byte first:
// jobN_stream.bin:   {0, 0, 0, 0, 0, 0, mark, TLAST}, beat; mark opens an inference.
// jobN_resultsP.bin: a result word of processing element P: pass, its row, chunk of 4 bytes each,
//                    then LANES containers of OUT_BITS.
// jobN_output.bin:   {0, 0, 0, 0, 0, 0, 0, TLAST}, beat.

`timescale 1ns / 1ps
`default_nettype none

module sgq_harness #(
    parameter PES         = 1,   // processing elements
    parameter STREAM_BITS = 64,  // bits of a beat
    parameter LANES       = 16,  // lanes of a result word
    parameter OUT_BITS    = 16,  // signed container of a result
    parameter PASS_BITS   = 2,   // bits of a pass index
    parameter ROW_BITS    = 12,  // bits of a row index
    parameter COUNTERS    = 10,  // performance counters
    parameter COUNT_BITS  = 48   // bits of a counter
) (
`ifdef VERILATOR
    input wire clk
`endif
);

localparam WORD_BITS  = LANES * OUT_BITS;
localparam LOG_LIMIT  = 64;      // mismatches written out for each job
localparam QUIET_END  = 256;     // cycles without activity after which a finished job ends
localparam WATCHDOG   = 200000;  // cycles without activity after which a job is given up

localparam BEAT_BYTES  = STREAM_BITS / 8;      // of a beat in a file
localparam WORD_BYTES  = (WORD_BITS + 7) / 8;    // of a result word in a file
localparam RESET_CYCLES  = 4;
localparam SETTLE_CYCLES = 4;  // from the write that clears the counters to the first beat

reg rst;
reg finished;
reg [31:0] total_compared, total_mismatches;

`ifndef VERILATOR
reg clk;

initial begin
    clk = 1'b0;
end

always begin
    #1 clk = ~clk;
end
`endif

// ---------------------------------------------------------------- device under test

reg  [STREAM_BITS-1:0] s_axis_tdata;
reg                    s_axis_tlast, s_axis_tvalid;
wire                   s_axis_tready;
wire [STREAM_BITS-1:0] m_axis_tdata;
wire                   m_axis_tlast, m_axis_tvalid;
reg                    m_axis_tready;
reg  [7:0]             awaddr, araddr;
reg                    awvalid, wvalid, arvalid;
reg  [31:0]            wdata;
wire                   awready, wready, bvalid, arready, rvalid;
wire [31:0]            rdata;
wire [1:0]             bresp, rresp;
wire                   irq;

sgq_accelerator dut (
    .clk            (clk),
    .rst            (rst),
    .s_axis_tdata   (s_axis_tdata),
    .s_axis_tlast   (s_axis_tlast),
    .s_axis_partial (1'b0),
    .s_axis_tvalid  (s_axis_tvalid),
    .s_axis_tready  (s_axis_tready),
    .m_axis_tdata   (m_axis_tdata),
    .m_axis_tlast   (m_axis_tlast),
    .m_axis_tvalid  (m_axis_tvalid),
    .m_axis_tready  (m_axis_tready),
    .s_axil_awaddr  (awaddr),
    .s_axil_awvalid (awvalid),
    .s_axil_awready (awready),
    .s_axil_wdata   (wdata),
    .s_axil_wstrb   (4'hF),
    .s_axil_wvalid  (wvalid),
    .s_axil_wready  (wready),
    .s_axil_bresp   (bresp),
    .s_axil_bvalid  (bvalid),
    .s_axil_bready  (1'b1),
    .s_axil_araddr  (araddr),
    .s_axil_arvalid (arvalid),
    .s_axil_arready (arready),
    .s_axil_rdata   (rdata),
    .s_axil_rresp   (rresp),
    .s_axil_rvalid  (rvalid),
    .s_axil_rready  (1'b1),
    .irq            (irq)
);

wire unused_irq = &{1'b0, irq};

// ---------------------------------------------------------------- state of a job

integer job, jobs;
integer settings_file, stream_file, output_file, report_file;
integer results_files [0:PES-1];
integer scanned, lane, pe;
reg [8*40-1:0] file_name;
reg            source_done;
reg [31:0]     input_gap, output_stall, seed, expected_beats, expected_words;
reg [31:0]     random;
reg [31:0]     compared, mismatches, logged, beats_seen, words_seen;
reg [63:0]     cycle, quiet;
reg [63:0]     load_first, load_last, infer_first, latency, previous_done, last_done;
reg [31:0]     inferences, stalled_inputs, stalled_outputs;
reg            load_seen, infer_open, mark_reg;

reg [8*BEAT_BYTES+7:0]  beat_record, output_record;
reg [8*WORD_BYTES+95:0] result_record;
reg [31:0]              want_pass, want_row, want_chunk, have_chunk;
reg [ROW_BITS-1:0]      have_row;
reg [WORD_BITS-1:0]     want_word, have_word;
reg [OUT_BITS-1:0]      want_code, have_code;

// States of a job.
localparam [2:0] RESET  = 3'd0;
localparam [2:0] OPEN   = 3'd1;  // opens its files
localparam [2:0] CLEAR  = 3'd2;  // clears errors and counters of the accelerator
localparam [2:0] SETTLE = 3'd3;
localparam [2:0] RUN    = 3'd4;  // source, sink and monitor work
localparam [2:0] JUDGE  = 3'd5;  // reports what they found
localparam [2:0] READ   = 3'd6;  // reports the accelerator's registers
localparam [2:0] OVER   = 3'd7;

reg [2:0]  state;
reg [7:0]  waited;    // cycles in RESET or SETTLE
reg [7:0]  read_step; // register that is read: error, then low and high word of each counter
reg [31:0] read_low;
integer    counter;

wire [PES-1:0]          out_valid = dut.out_valid;
wire [PES*ROW_BITS-1:0] out_row   = dut.out_row;
wire                    accepted  = s_axis_tvalid && s_axis_tready;
wire                    delivered = m_axis_tvalid && m_axis_tready;

// The counters, first in the lowest bits; between two ends of inferences they tell the steady state.
wire [COUNTERS*COUNT_BITS-1:0] counts = {
    dut.counters.lost_output_stall_reg, dut.counters.lost_input_stall_reg,
    dut.counters.lost_fill_drain_reg, dut.counters.lost_lane_padding_reg,
    dut.counters.lost_row_imbalance_reg, dut.counters.lost_bank_conflict_reg,
    dut.counters.busy_slots_reg, dut.counters.load_cycles_reg,
    dut.counters.inferences_reg, dut.counters.cycles_reg};
reg  [COUNTERS*COUNT_BITS-1:0] previous_counts, last_counts;

// A 32-bit linear feedback step for each decision; the low byte is compared with a threshold.
function [31:0] next_random(input [31:0] value);
    reg [31:0] mixed;
    begin
        mixed = value ^ (value << 13);
        mixed = mixed ^ (mixed >> 17);
        next_random = mixed ^ (mixed << 5);
    end
endfunction

task log_mismatch(
    input [31:0] pass, input [31:0] row, input [31:0] chunk, input [31:0] at_lane,
    input [OUT_BITS-1:0] want, input [OUT_BITS-1:0] have
);
    begin
        mismatches = mismatches + 1;
        if (logged < LOG_LIMIT) begin
            logged = logged + 1;
            $fdisplay(report_file, "mismatch %0d %0d %0d %0d %0d %0d %0d %0d %0d", job, pe, pass,
                      row, chunk, at_lane, $signed(want), $signed(have), cycle);
        end
    end
endtask

task compare_word;
    begin
        words_seen = words_seen + 32'd1;
        have_row   = out_row[pe*ROW_BITS +: ROW_BITS];
        have_word  = dut.out_data[pe*WORD_BITS +: WORD_BITS];
        scanned = $fread(result_record, results_files[pe]);
        if (scanned != WORD_BYTES + 12) begin
            mismatches = mismatches + 1;
        end else begin
            want_pass  = result_record[8*WORD_BYTES+64 +: 32];
            want_row   = result_record[8*WORD_BYTES+32 +: 32];
            want_chunk = result_record[8*WORD_BYTES +: 32];
            want_word  = result_record[WORD_BITS-1:0];
            if (want_pass != { {(32-PASS_BITS){1'b0}}, dut.pass_index }
                    || want_row != { {(32-ROW_BITS){1'b0}}, have_row }
                    || want_chunk != have_chunk) begin
                log_mismatch(want_pass, want_row, want_chunk, 32'hFFFFFFFF,
                             {OUT_BITS{1'b0}}, {OUT_BITS{1'b0}});
            end
            compared = compared + LANES;
            if (want_word != have_word) begin
                for (lane = 0; lane < LANES; lane = lane + 1) begin
                    want_code = want_word[lane*OUT_BITS +: OUT_BITS];
                    have_code = have_word[lane*OUT_BITS +: OUT_BITS];
                    if (want_code != have_code) begin
                        log_mismatch(want_pass, want_row, want_chunk, lane, want_code, have_code);
                    end
                end
            end
        end
    end
endtask

// ---------------------------------------------------------------- files of a job

task open_job;
    begin
        $sformat(file_name, "job%0d_settings.hex", job);
        settings_file = $fopen(file_name, "r");
        scanned = $fscanf(settings_file, "%h %h %h %h %h\n", input_gap, output_stall, seed,
                          expected_beats, expected_words);
        $fclose(settings_file);
        $sformat(file_name, "job%0d_stream.bin", job);
        stream_file = $fopen(file_name, "rb");
        for (pe = 0; pe < PES; pe = pe + 1) begin
            $sformat(file_name, "job%0d_results%0d.bin", job, pe);
            results_files[pe] = $fopen(file_name, "rb");
        end
        $sformat(file_name, "job%0d_output.bin", job);
        output_file = $fopen(file_name, "rb");
    end
endtask

task close_job;
    begin
        $fclose(stream_file);
        for (pe = 0; pe < PES; pe = pe + 1) begin
            $fclose(results_files[pe]);
        end
        $fclose(output_file);
    end
endtask

task judge_job;
    begin
        // What never came is as wrong as what came out wrong.
        if (words_seen < expected_words) begin
            mismatches = mismatches + (expected_words - words_seen) * LANES;
        end
        if (beats_seen < expected_beats) begin
            mismatches = mismatches + (expected_beats - beats_seen);
        end
        $fdisplay(report_file, "job %0d %0d %0d %0d %0d %0d %0d %0d %0d %0d %0d %0d", job,
                  compared, mismatches, words_seen, beats_seen, inferences,
                  last_done - previous_done, latency,
                  load_seen ? load_last - load_first + 64'd1 : 64'd0,
                  stalled_inputs, stalled_outputs, source_done);
        total_compared   = total_compared + compared;
        total_mismatches = total_mismatches + mismatches;
    end
endtask

// ---------------------------------------------------------------- source, sink, monitor, registers

always @(posedge clk) begin
    cycle  <= cycle + 64'd1;
    quiet  <= quiet + 64'd1;
    random <= next_random(random);
    waited <= waited + 8'd1;
    if (awready) begin
        awvalid <= 1'b0;
    end
    if (wready) begin
        wvalid <= 1'b0;
    end
    if (arready) begin
        arvalid <= 1'b0;
    end
    case (state)
        RESET: begin
            if (waited == RESET_CYCLES) begin
                rst   <= 1'b0;
                state <= OPEN;
            end
        end
        OPEN: begin
            open_job;
            awaddr  <= 8'h08;
            wdata   <= 32'd3;
            awvalid <= 1'b1;
            wvalid  <= 1'b1;
            state   <= CLEAR;
        end
        CLEAR: begin
            waited <= 8'd0;
            if (bvalid) begin
                state <= SETTLE;
            end
        end
        SETTLE: begin
            compared        = 32'd0;
            mismatches      = 32'd0;
            logged          = 32'd0;
            beats_seen      <= 32'd0;
            words_seen      = 32'd0;
            inferences      <= 32'd0;
            stalled_inputs  <= 32'd0;
            stalled_outputs <= 32'd0;
            source_done     <= 1'b0;
            load_seen       <= 1'b0;
            infer_open      <= 1'b0;
            load_first      <= 64'd0;
            load_last       <= 64'd0;
            infer_first     <= 64'd0;
            latency         <= 64'd0;
            previous_done   <= 64'd0;
            last_done       <= 64'd0;
            previous_counts <= {COUNTERS*COUNT_BITS{1'b0}};
            last_counts     <= {COUNTERS*COUNT_BITS{1'b0}};
            random          <= seed;
            quiet           <= 64'd0;
            if (waited == SETTLE_CYCLES) begin
                state <= RUN;
            end
        end
        RUN: begin
            // Source: a new beat when the old one has gone, or a gap with junk on the wires.
            if (accepted) begin
                quiet <= 64'd0;
                if (mark_reg) begin
                    if (!infer_open) begin
                        infer_first <= cycle;
                    end
                    infer_open <= 1'b1;
                end else if (!infer_open) begin
                    if (!load_seen) begin
                        load_first <= cycle;
                    end
                    load_seen <= 1'b1;
                    load_last <= cycle;
                end
            end
            if (s_axis_tvalid && !s_axis_tready) begin
                stalled_inputs <= stalled_inputs + 32'd1;
            end
            if (!s_axis_tvalid || s_axis_tready) begin
                s_axis_tvalid <= 1'b0;
                s_axis_tlast  <= random[9];
                s_axis_tdata  <= {STREAM_BITS{random[10]}};
                if (!source_done && {24'd0, random[7:0]} >= input_gap) begin
                    scanned = $fread(beat_record, stream_file);
                    if (scanned == BEAT_BYTES + 1) begin
                        s_axis_tvalid <= 1'b1;
                        s_axis_tdata  <= beat_record[STREAM_BITS-1:0];
                        s_axis_tlast  <= beat_record[8*BEAT_BYTES];
                        mark_reg      <= beat_record[8*BEAT_BYTES+1];
                    end else begin
                        source_done <= 1'b1;
                    end
                end
            end
            // Sink.
            m_axis_tready <= {24'd0, random[23:16]} >= output_stall;
            if (m_axis_tvalid && !m_axis_tready) begin
                stalled_outputs <= stalled_outputs + 32'd1;
            end
            if (delivered) begin
                quiet      <= 64'd0;
                beats_seen <= beats_seen + 32'd1;
                scanned = $fread(output_record, output_file);
                if (scanned != BEAT_BYTES + 1) begin
                    mismatches = mismatches + 1;
                end else if (output_record[8*BEAT_BYTES +: 8] != {7'd0, m_axis_tlast}
                        || output_record[STREAM_BITS-1:0] != m_axis_tdata) begin
                    mismatches = mismatches + 1;
                    if (logged < LOG_LIMIT) begin
                        logged = logged + 1;
                        $fdisplay(report_file, "output_mismatch %0d %0d %h %h %0d", job, beats_seen,
                                  {output_record[8*BEAT_BYTES], output_record[STREAM_BITS-1:0]},
                                  {m_axis_tlast, m_axis_tdata}, cycle);
                    end
                end
                if (m_axis_tlast) begin
                    latency    <= cycle - infer_first;
                    infer_open <= 1'b0;
                end
            end
            // Monitor: every word that the epilogues write, in the order of each processing element.
            if (dut.out_step) begin
                have_chunk = dut.out_first_chunk ? 32'd0 : have_chunk + 32'd1;
            end
            if (out_valid != {PES{1'b0}}) begin
                quiet <= 64'd0;
                for (pe = 0; pe < PES; pe = pe + 1) begin
                    if (out_valid[pe]) begin
                        compare_word;
                    end
                end
            end
            if (quiet > WATCHDOG
                    || (source_done && quiet > QUIET_END && beats_seen >= expected_beats
                        && words_seen >= expected_words)) begin
                state         <= JUDGE;
                s_axis_tvalid <= 1'b0;
                m_axis_tready <= 1'b0;
            end
            if (dut.done) begin
                inferences    <= inferences + 32'd1;
                previous_done <= last_done;
                last_done     <= cycle;
                previous_counts <= last_counts;
                last_counts     <= counts;
            end
        end
        JUDGE: begin
            judge_job;
            close_job;
            araddr    <= 8'h10;
            arvalid   <= 1'b1;
            read_step <= 8'd0;
            state     <= READ;
        end
        READ: begin
            if (rvalid) begin
                counter = {24'd0, (read_step - 8'd1) >> 1};
                if (read_step == 8'd0) begin
                    $fdisplay(report_file, "error %0d %0d", job, rdata);
                end else if (read_step[0]) begin
                    read_low = rdata;
                end else begin
                    $fdisplay(report_file, "counter %0d %0d %0d %0d", job, counter,
                              {rdata, read_low}, last_counts[counter*COUNT_BITS +: COUNT_BITS]
                              - previous_counts[counter*COUNT_BITS +: COUNT_BITS]);
                end
                read_step <= read_step + 8'd1;
                araddr    <= 8'h80 + {read_step[5:0], 2'b00};
                arvalid   <= 1'b1;
                if (counter == COUNTERS - 1 && !read_step[0]) begin
                    arvalid <= 1'b0;
                    job     = job + 1;
                    state   <= job == jobs ? OVER : OPEN;
                end
            end
        end
        default: begin
            if (!finished) begin
                $fdisplay(report_file, "end %0d", cycle);
                $fclose(report_file);
                finished <= 1'b1;
                // Without cocotb nobody else ends the simulation.
                if ($test$plusargs("standalone")) begin
                    $finish;
                end
            end
        end
    endcase
end

initial begin
    finished         = 1'b0;
    rst              = 1'b1;
    state            = RESET;
    waited           = 8'd0;
    job              = 0;
    s_axis_tvalid    = 1'b0;
    s_axis_tlast     = 1'b0;
    s_axis_tdata     = {STREAM_BITS{1'b0}};
    m_axis_tready    = 1'b0;
    awvalid          = 1'b0;
    wvalid           = 1'b0;
    arvalid          = 1'b0;
    awaddr           = 8'd0;
    araddr           = 8'd0;
    wdata            = 32'd0;
    cycle            = 64'd0;
    quiet            = 64'd0;
    random           = 32'd1;
    total_compared   = 32'd0;
    total_mismatches = 32'd0;
    mark_reg         = 1'b0;
    have_chunk       = 32'd0;
    if (!$value$plusargs("jobs=%d", jobs)) begin
        jobs = 1;
    end
    report_file = $fopen("harness_report.txt", "w");
end

endmodule

`resetall
