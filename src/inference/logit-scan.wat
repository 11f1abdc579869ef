;; Looks through the logits of one row, four at a time. logit-scan-code.ts is made of it, and says how.
;; Logits lie in blocks of 64, which are 256 bytes; the last block is filled up with -inf.
(module
  (memory (import "logits" "memory") 1)

  ;; The largest value of each block between $from and $end, in a row from $to on. NaN is passed over: pmax keeps its first operand then.
  (func (export "blockMaxima") (param $from i32) (param $end i32) (param $to i32)
    (local $maxima v128)
    (local $blockEnd i32)
    (loop $blocks
      (local.set $maxima (v128.const f32x4 -inf -inf -inf -inf))
      (local.set $blockEnd (i32.add (local.get $from) (i32.const 256)))
      (loop $values
        (local.set $maxima (f32x4.pmax (local.get $maxima) (v128.load (local.get $from))))
        (local.set $from (i32.add (local.get $from) (i32.const 16)))
        (br_if $values (i32.lt_u (local.get $from) (local.get $blockEnd))))
      ;; The larger ones of both halves, then of both that are left.
      (local.set $maxima (f32x4.pmax (local.get $maxima)
        (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $maxima) (local.get $maxima))))
      (local.set $maxima (f32x4.pmax (local.get $maxima)
        (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get $maxima) (local.get $maxima))))
      (f32.store (local.get $to) (f32x4.extract_lane 0 (local.get $maxima)))
      (local.set $to (i32.add (local.get $to) (i32.const 4)))
      (br_if $blocks (i32.lt_u (local.get $from) (local.get $end)))))

  ;; The sum of exp(value - $largest) over all values between $from and $end; NaN when one is. Blocks are summed in f32, and all in f64.
  (func (export "sumOfExponentials") (param $from i32) (param $end i32) (param $largest f32) (result f64)
    (local $blockEnd i32)
    (local $subtrahend v128)
    (local $power v128)
    (local $whole v128)
    (local $rest v128)
    (local $block v128)
    (local $sum v128)
    (local.set $subtrahend (f32x4.splat (local.get $largest)))
    (loop $blocks
      (local.set $block (v128.const f32x4 0 0 0 0))
      (local.set $blockEnd (i32.add (local.get $from) (i32.const 256)))
      (loop $values
        ;; exp(x) is 2^(x / ln 2), and 2^-126 the least power that f32 has in full: what is below adds nothing.
        (local.set $power (f32x4.pmax
          (f32x4.mul (v128.const f32x4 1.44269504 1.44269504 1.44269504 1.44269504)
            (f32x4.sub (v128.load (local.get $from)) (local.get $subtrahend)))
          (v128.const f32x4 -126 -126 -126 -126)))
        (local.set $whole (f32x4.nearest (local.get $power)))
        (local.set $rest (f32x4.sub (local.get $power) (local.get $whole)))
        ;; 2^rest by a polynomial that is exact at 0 and right to 1.9e-7 between -1/2 and 1/2; the whole part goes into the exponent.
        (local.set $block (f32x4.add (local.get $block) (i32x4.add
          (f32x4.add (v128.const f32x4 1 1 1 1) (f32x4.mul (local.get $rest)
          (f32x4.add (v128.const f32x4 0.69314698 0.69314698 0.69314698 0.69314698) (f32x4.mul (local.get $rest)
          (f32x4.add (v128.const f32x4 0.24022242 0.24022242 0.24022242 0.24022242) (f32x4.mul (local.get $rest)
          (f32x4.add (v128.const f32x4 0.05550734 0.05550734 0.05550734 0.05550734) (f32x4.mul (local.get $rest)
          (f32x4.add (v128.const f32x4 0.00967151 0.00967151 0.00967151 0.00967151) (f32x4.mul (local.get $rest)
          (v128.const f32x4 0.00132647 0.00132647 0.00132647 0.00132647)))))))))))
          (i32x4.shl (i32x4.trunc_sat_f32x4_s (local.get $whole)) (i32.const 23)))))
        (local.set $from (i32.add (local.get $from) (i32.const 16)))
        (br_if $values (i32.lt_u (local.get $from) (local.get $blockEnd))))
      (local.set $sum (f64x2.add (local.get $sum) (f64x2.add
        (f64x2.promote_low_f32x4 (local.get $block))
        (f64x2.promote_low_f32x4
          (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $block) (local.get $block))))))
      (br_if $blocks (i32.lt_u (local.get $from) (local.get $end))))
    (f64.add (f64x2.extract_lane 0 (local.get $sum)) (f64x2.extract_lane 1 (local.get $sum)))))
