import { expect, test } from 'vitest';
import { type Pace, paced, remaining } from './pace';

function sending(times: readonly (readonly [number, number])[]): Pace {
  let pace: Pace | undefined;
  for (const [at, sent] of times) pace = paced(pace, sent, 100, at);
  return pace as Pace;
}

test('nothing is promised from the first pieces', () => {
  expect(remaining(sending([[0, 0]]), 10_000)).toBeNull();
  expect(
    remaining(
      sending([
        [0, 0],
        [1000, 10],
      ]),
      1000,
    ),
  ).toBeNull();
});

test('a steady line gives one number', () => {
  const pace = sending(Array.from({ length: 9 }, (_, n) => [n * 1000, n * 10] as const));

  expect(remaining(pace, 8000)).toEqual({ from: 2, to: 2 });
});

/** A line that becomes ten times slower: the old rate is not believed alone. */
test('a line that changes gives a range, and one that stands still a longer one', () => {
  const pace = sending([
    [0, 0],
    [1000, 20],
    [2000, 40],
    [3000, 60],
    [8000, 70],
  ]);
  const rest = remaining(pace, 8000);

  expect(rest?.from).toBeLessThan(rest?.to ?? 0);
  expect(remaining(pace, 20_000)?.to).toBeCloseTo((rest?.to ?? 0) + 12);
});

test('an upload that begins anew is measured anew', () => {
  const before = sending([
    [0, 50],
    [1000, 60],
  ]);

  expect(paced(before, 0, 100, 2000)).toMatchObject({ sent: 0, begun: 2000, quick: null });
});
