import { expect, test } from "vitest";
import { Schedule } from "../../src/model/schedule";

/** A runner that finishes a question only when told to. */
function stepped() {
  const asked: string[] = [];
  const finish: (() => void)[] = [];
  const schedule = new Schedule<string, string>((question) => {
    asked.push(question);
    return new Promise((resolve) => finish.push(() => resolve(question.toUpperCase())));
  });
  const step = async () => {
    finish.shift()?.();
    await new Promise((resolve) => setTimeout(resolve));
  };
  return { schedule, asked, step };
}

test("of hovers that wait only the latest is asked", async () => {
  const { schedule, asked, step } = stepped();
  const replies = ["a", "b", "c", "d"].map((question) => schedule.askLatest(question));
  await step();
  await step();
  expect(asked).toEqual(["a", "d"]);
  expect(await Promise.all(replies)).toEqual(["A", null, null, "D"]);
});

test("clicks are all answered, in order, before a waiting hover", async () => {
  const { schedule, asked, step } = stepped();
  const replies = [
    schedule.askLatest("hover 1"),
    schedule.askLatest("hover 2"),
    schedule.ask("click 1"),
    schedule.ask("click 2"),
  ];
  for (let index = 0; index < 4; index++) await step();
  expect(asked).toEqual(["hover 1", "click 1", "click 2", "hover 2"]);
  expect(await Promise.all(replies)).toEqual(["HOVER 1", "HOVER 2", "CLICK 1", "CLICK 2"]);
});

test("a dropped hover is not asked", async () => {
  const { schedule, asked, step } = stepped();
  const first = schedule.ask("click");
  const hover = schedule.askLatest("hover");
  schedule.dropHover();
  await step();
  expect(asked).toEqual(["click"]);
  expect([await first, await hover]).toEqual(["CLICK", null]);
});

test("a failure reaches its asker and the next is asked", async () => {
  const schedule = new Schedule<number, number>(async (value) => {
    if (value < 0) throw new Error("negative");
    return value;
  });
  const replies = await Promise.allSettled([schedule.ask(-1), schedule.ask(2)]);
  expect(replies.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
});
