import { signal } from "@preact/signals";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError } from "../../src/api/backend";
import type { ImageInfo } from "../../src/api/types";
import { encoded, learned } from "../../src/state/encoding";

const image = (state: ImageInfo["state"], error: string | null = null): ImageInfo => ({
  id: "1",
  name: "a.jpg",
  width: 2,
  height: 2,
  state,
  error,
  revision: 0,
  num_annotations: 0,
});

function setUp() {
  const images = signal<readonly ImageInfo[]>([image("new")]);
  const hear = (now: ImageInfo) => (images.value = learned(images.peek(), now));
  return { images, hear };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("an image that cannot be encoded is asked for once, and its error is thrown", async () => {
  const { images, hear } = setUp();
  let asked = 0;
  const ask = async () => {
    asked += 1;
    setTimeout(() => hear(image("failed", "damaged file")), 100);
    return image("waiting");
  };
  const found = encoded("1", images, ask, () => true);
  const failure = expect(found).rejects.toMatchObject({ status: 422, message: "damaged file" });
  await vi.advanceTimersByTimeAsync(10_000);
  await failure;
  expect(asked).toBe(1);
});

test("an answer that an event overtook does not hide it", async () => {
  const { images, hear } = setUp();
  const ask = async () => {
    hear(image("failed", "damaged file"));
    return image("waiting");
  };
  await expect(encoded("1", images, ask, () => true)).rejects.toThrow("damaged file");
  expect(images.value[0]?.state).toBe("failed");
});

test("an image that failed before is tried again when asked for, also while the model is busy", async () => {
  const { images, hear } = setUp();
  hear(image("failed", "no memory"));
  const answers = [new ApiError(429, "busy", 1), image("waiting"), image("ready")];
  const ask = async () => {
    const answer = answers.shift()!;
    if (answer instanceof ApiError) throw answer;
    return answer;
  };
  const found = encoded("1", images, ask, () => true);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await found).toBe(true);
  expect(answers).toEqual([]);
});

test("an image that nobody wants any more is not waited for", async () => {
  const { images } = setUp();
  let isWanted = true;
  const found = encoded(
    "1",
    images,
    async () => image("waiting"),
    () => isWanted,
  );
  isWanted = false;
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await found).toBe(false);
});
