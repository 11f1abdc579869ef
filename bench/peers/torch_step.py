"""A training step of a cartridge in PyTorch: the rival of `bench/training.ts`.

A frozen llama of SmolLM2-135M's shapes with random weights, trainable keys and values in front of the text (the first row
frozen), a sparse top-20 distillation loss at every token, backward to the rows, and one fused Adam update.

Alone it warms up, measures and prints one JSON object. With --serve it speaks the protocol of `support/serve-runs.ts`: one
line of JSON when it is ready, one for each line of standard input, and one at its end.
"""

import argparse
import contextlib
import json
import math
import os
import resource
import statistics
import sys
import time

import torch
from torch.nn import functional as F

LAYERS, EMBEDDING, HEADS, KV_HEADS, HEAD_DIMENSION = 30, 576, 9, 3, 64
FEED_FORWARD, VOCABULARY, ROPE_BASE, EPSILON = 1536, 49152, 100_000.0, 1e-5
TEACHER_ENTRIES, LEARNING_RATE, FROZEN_ROWS = 20, 2e-3, 1


def parse_arguments():
    parser = argparse.ArgumentParser(description="one training step of a cartridge in PyTorch")
    parser.add_argument("--type", choices=["f32", "bf16"], default="f32", help="weights, and autocast for bf16")
    parser.add_argument("--compile", action="store_true", help="torch.compile the forward pass and its gradient")
    parser.add_argument("--prefix", type=int, default=128, help="rows of the cartridge")
    parser.add_argument("--slots", type=int, default=4, help="conversations in a step")
    parser.add_argument("--slot-tokens", type=int, default=128, help="tokens of a conversation")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=1, help="steps of a run, one after the other")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help="one run for each line of standard input")
    return parser.parse_args()


class FrozenLlama:
    """Random weights in `dtype`; nothing of it takes a gradient."""

    def __init__(self, dtype, prefix_tokens, slot_tokens):
        def matrix(outputs, inputs):
            return (torch.randn(outputs, inputs) / math.sqrt(inputs)).to(dtype)

        def norm():
            return torch.ones(EMBEDDING, dtype=dtype)

        self.embedding = (torch.randn(VOCABULARY, EMBEDDING) * 0.05).to(dtype)
        self.output_norm = norm()
        self.layers = [
            {
                "attention_norm": norm(),
                "query": matrix(HEADS * HEAD_DIMENSION, EMBEDDING),
                "key": matrix(KV_HEADS * HEAD_DIMENSION, EMBEDDING),
                "value": matrix(KV_HEADS * HEAD_DIMENSION, EMBEDDING),
                "output": matrix(EMBEDDING, HEADS * HEAD_DIMENSION),
                "feed_forward_norm": norm(),
                "gate": matrix(FEED_FORWARD, EMBEDDING),
                "up": matrix(FEED_FORWARD, EMBEDDING),
                "down": matrix(EMBEDDING, FEED_FORWARD),
            }
            for _ in range(LAYERS)
        ]
        # Text tokens stand behind the prefix.
        positions = torch.arange(prefix_tokens, prefix_tokens + slot_tokens, dtype=torch.float32)
        frequencies = ROPE_BASE ** (-torch.arange(0, HEAD_DIMENSION, 2, dtype=torch.float32) / HEAD_DIMENSION)
        angles = torch.outer(positions, frequencies).repeat(1, 2)
        self.cosine, self.sine = angles.cos().to(dtype), angles.sin().to(dtype)
        text = torch.ones(slot_tokens, slot_tokens, dtype=torch.bool).tril()
        self.mask = torch.cat([torch.ones(slot_tokens, prefix_tokens, dtype=torch.bool), text], dim=1)

    def loss_sum(self, tokens, keys, values, class_ids, shares):
        """Sum over all tokens of the cross-entropy between the teacher's shares and the student's distribution."""
        x = F.embedding(tokens, self.embedding)
        for layer, prefix_keys, prefix_values in zip(self.layers, keys, values):
            x = x + self.attention(layer, rms_norm(x, layer["attention_norm"]), prefix_keys, prefix_values)
            h = rms_norm(x, layer["feed_forward_norm"])
            x = x + F.linear(F.silu(F.linear(h, layer["gate"])) * F.linear(h, layer["up"]), layer["down"])
        logits = F.linear(rms_norm(x, self.output_norm).flatten(0, 1), self.embedding).float()
        log_probabilities = logits.gather(1, class_ids) - logits.logsumexp(1, keepdim=True)
        return -(shares * log_probabilities).sum()

    def attention(self, layer, x, prefix_keys, prefix_values):
        slots, slot_tokens, _ = x.shape

        def split(name, heads):
            return F.linear(x, layer[name]).view(slots, slot_tokens, heads, HEAD_DIMENSION).transpose(1, 2)

        def behind(prefix, own):
            return torch.cat([prefix.to(own.dtype).expand(slots, -1, -1, -1), own], dim=2)

        query = self.rotate(split("query", HEADS))
        key = behind(prefix_keys, self.rotate(split("key", KV_HEADS)))
        value = behind(prefix_values, split("value", KV_HEADS))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.mask, enable_gqa=True)
        return F.linear(mixed.transpose(1, 2).reshape(slots, slot_tokens, HEADS * HEAD_DIMENSION), layer["output"])

    def rotate(self, x):
        first, second = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat([-second, first], dim=-1) * self.sine


def rms_norm(x, weight):
    return F.rms_norm(x, (EMBEDDING,), weight, EPSILON)


class Step:
    def __init__(self, arguments, dtype):
        torch.manual_seed(1)
        self.dtype = dtype
        slots, slot_tokens, prefix = arguments.slots, arguments.slot_tokens, arguments.prefix
        self.token_count = slots * slot_tokens
        self.model = FrozenLlama(self.dtype, prefix, slot_tokens)
        self.tokens = torch.randint(VOCABULARY, (slots, slot_tokens))
        self.class_ids = torch.rand(self.token_count, VOCABULARY).topk(TEACHER_ENTRIES).indices
        shares = torch.rand(self.token_count, TEACHER_ENTRIES)
        self.shares = shares / shares.sum(1, keepdim=True)
        self.frozen = [[torch.randn(1, KV_HEADS, FROZEN_ROWS, HEAD_DIMENSION) for _ in range(LAYERS)] for _ in "kv"]
        self.rows = [
            [torch.randn(1, KV_HEADS, prefix - FROZEN_ROWS, HEAD_DIMENSION, requires_grad=True) for _ in range(LAYERS)]
            for _ in "kv"
        ]
        self.adam = torch.optim.Adam([row for kind in self.rows for row in kind], lr=LEARNING_RATE, fused=True)
        self.loss_sum = torch.compile(self.model.loss_sum) if arguments.compile else self.model.loss_sum

    def __call__(self):
        keys, values = (
            [torch.cat([frozen, row], dim=2) for frozen, row in zip(*kind)] for kind in zip(self.frozen, self.rows)
        )
        autocast = torch.autocast("cpu", torch.bfloat16) if self.dtype == torch.bfloat16 else contextlib.nullcontext()
        with autocast:
            loss = self.loss_sum(self.tokens, keys, values, self.class_ids, self.shares) / self.token_count
        loss.backward()
        self.adam.step()
        self.adam.zero_grad()
        return loss.item()


def measure(step, steps):
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(steps):
        loss = step()
    milliseconds = (time.perf_counter() - start) * 1000
    if not math.isfinite(loss):
        sys.exit(f"error: the loss of a step is {loss}")
    # Beside every run and outside its time: a speed to compare with needs the same minutes.
    gigaflops = product_gigaflops(step.dtype)
    cpu_milliseconds = (time.process_time() - cpu) * 1000
    return {"milliseconds": milliseconds, "cpuMilliseconds": cpu_milliseconds, "loss": loss, "productGigaflops": gigaflops}


def product_gigaflops(dtype):
    """The best rate of a few plain products: one of a layer's shape, and a square one."""
    best = 0.0
    for rows, inner, columns in [(512, EMBEDDING, FEED_FORWARD), (1024, 1024, 1024)]:
        a, b = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
        for _ in range(5):
            start = time.perf_counter()
            F.linear(a, b)
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start) / 1e9)
    return best


def refuse_emulation(dtype):
    """
    A CPU without instructions for a type converts every number. A step is mostly products, so at half of their rate it cannot be the
    fastest one; it would take minutes and say nothing.
    """
    gigaflops, exact = product_gigaflops(dtype), product_gigaflops(torch.float32)
    if gigaflops * 2 < exact:
        sys.exit(f"error: products in {dtype} run at {gigaflops:.0f} GFLOPS here, in torch.float32 at {exact:.0f}")


def peak_bytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(step, steps, facts):
    def send(message):
        print(json.dumps(message), flush=True)

    send({"facts": facts})
    for _ in sys.stdin:
        send(measure(step, steps))
    send({"peakBytes": peak_bytes()})


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    dtype = torch.bfloat16 if arguments.type == "bf16" else torch.float32
    refuse_emulation(dtype)
    step = Step(arguments, dtype)
    start = time.perf_counter()
    # The first step compiles.
    step()
    facts = {
        "variant": f"PyTorch {torch.__version__} {arguments.type} {'compiled' if arguments.compile else 'eager'}",
        "firstStepSeconds": time.perf_counter() - start,
    }
    if arguments.serve:
        serve(step, arguments.steps, facts)
        return
    step()
    runs = [measure(step, arguments.steps) for _ in range(arguments.repetitions)]
    milliseconds = statistics.median(run["milliseconds"] for run in runs) / arguments.steps
    result = {
        "milliseconds": milliseconds,
        "tokensPerSecond": step.token_count / milliseconds * 1000,
        "loss": runs[-1]["loss"],
        "productGigaflops": max(run["productGigaflops"] for run in runs),
        "peakBytes": peak_bytes(),
    }
    print(json.dumps({**facts, **result}))


if __name__ == "__main__":
    main()
