// The live page in a headless Chromium: what a person would do and see. Started by tests/page.rs, which has a gateway
// under load ready:
//
//   node run.mjs --url http://127.0.0.1:PORT --token TOKEN --browser /usr/bin/chromium [--shots FOLDER]
//
// Each test has a browser context of its own, so no storage is shared. With --shots, pictures for the documentation are
// written to the folder.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values: options } = parseArgs({
  options: { url: { type: "string" }, token: { type: "string" }, browser: { type: "string" }, shots: { type: "string" } },
});
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = ["now", "targets", "exchanges", "try", "gamedays", "config"];
const DESK = { width: 1360, height: 900 };
const PHONE = { width: 360, height: 740 };

/** Rows of exchanges that took more than one attempt. */
const SEVERAL = { hasText: "2 attempts" };

let browser;

before(async () => {
  if (options.shots) await mkdir(options.shots, { recursive: true });
  browser = await chromium.launch({
    executablePath: options.browser,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
});

after(() => browser?.close());

/** Opens a view; whatever the console or a request had to complain of fails the test at its end. */
async function open(t, { view = "now", size = DESK, scheme = "dark", bypassCSP = false } = {}) {
  const context = await browser.newContext({ viewport: size, colorScheme: scheme, bypassCSP, reducedMotion: "reduce" });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => { if (!request.url().startsWith(options.url) && !request.url().startsWith("data:")) complaints.push(`asked ${request.url()}`); });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, []);
  });
  await page.goto(`${options.url}/#/${view}`);
  await live(page);
  page.complaints = complaints;
  return page;
}

const live = (page) => page.waitForFunction(() => document.getElementById("live").dataset.state === "on");

async function unlock(page) {
  await page.click("#unlock");
  await page.fill("#token", options.token);
  await page.click("#token-form button[type=submit]");
  await page.waitForFunction(() => document.getElementById("unlock").textContent === "Unlocked");
}

async function shot(page, name) {
  if (!options.shots) return;
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(options.shots, `${name}.png`), animations: "disabled" });
}

test("the page loads and shows what happens while it happens", async (t) => {
  const page = await open(t);
  await page.waitForSelector("#charts canvas");
  const total = () => page.textContent("#foot").then((text) => Number(/([\d,]+) exchanges/.exec(text)[1].replaceAll(",", "")));
  const before = await total();
  assert.ok(before > 0);
  await page.waitForFunction((n) => Number(/([\d,]+) exchanges/.exec(document.getElementById("foot").textContent)[1].replaceAll(",", "")) > n, before);
  await page.waitForSelector("#running tbody tr");
  assert.equal(await page.locator("#tiles li").count(), 5);
  assert.match(await page.textContent("#brief"), /openai\/gpt-4o-mini/);
  assert.equal(await page.title(), "Now · Sluice");
});

test("charts can be grouped, spanned, and read as a table", async (t) => {
  const page = await open(t);
  await page.waitForSelector("#charts canvas");
  assert.match(await page.textContent("#legend"), /openai/);
  await page.click("[data-by=pipelines]");
  await page.waitForFunction(() => document.getElementById("legend").textContent.includes("nightly-eval"));
  assert.equal(await page.getAttribute("[data-by=pipelines]", "aria-pressed"), "true");
  await page.click("[data-span=day]");
  await page.waitForFunction(() => /per \d+ min/.test(document.getElementById("charts").textContent));
  await page.click("#charts details summary");
  await page.waitForSelector("#charts details[open] table tbody tr");
});

test("an exchange opens to the waterfall of its attempts", async (t) => {
  const page = await open(t, { view: "exchanges" });
  await page.check("#filter-bad");
  const row = page.locator("#exchanges tr.line", SEVERAL).first();
  await row.waitFor();
  await page.check("#filter-hold");
  await row.click();
  const fall = page.locator("#exchanges tr.detail:not([hidden]) .fall").first();
  await fall.waitFor();
  assert.match(await fall.textContent(), /1\. .*first call.*2\. .*(retry|fallback)/s);
  assert.ok((await fall.locator(".lane i").count()) >= 2);
  const facts = await page.textContent("#exchanges tr.detail:not([hidden]) .facts");
  assert.match(facts, /Request id.*Cost.*Who asked/s);
  assert.doesNotMatch(facts, /undefined|NaN|null/);
});

test("a target says why it gets no calls", async (t) => {
  const page = await open(t, { view: "targets" });
  const card = page.locator(".card", { hasText: "flaky-vllm" }).first();
  await card.waitFor();
  await page.waitForFunction(() => document.getElementById("targets").textContent.includes("Why it failed lately"));
  assert.match(await card.textContent(), /answered with status 503; counts against its breaker/);
  await card.locator("button").waitFor();
});

test("a request can be tried, streamed, and repeated in a terminal", async (t) => {
  const page = await open(t, { view: "try" });
  await page.fill("#try-model", "steady");
  await page.fill("#try-prompt", "It's a test");
  const curl = await page.textContent("#try-curl");
  assert.ok(curl.includes(`${options.url}/v1/chat/completions -N`) && curl.includes(`It'\\''s a test`), curl);
  await page.click("#try-send");
  await page.waitForFunction(() => document.getElementById("try-times").textContent.includes("done in"));
  assert.ok((await page.textContent("#try-answer")).length > 5);
  assert.match(await page.textContent("#try-headers"), /x-sluice-attempts.*x-sluice-provider/s);
  await page.uncheck("#try-stream");
  await page.click("#try-send");
  await page.waitForFunction(() => document.getElementById("try-times").textContent.startsWith("done in"));
  assert.match(await page.textContent("#try-headers"), /x-sluice-cost-usd|x-sluice-overhead-us/);
  await page.fill("#try-model", "nonsense");
  await page.click("#try-send");
  await page.waitForFunction(() => document.getElementById("try-times").textContent.startsWith("status 404"));
  // The browser itself says that a request was answered 404; that one was meant.
  page.complaints.splice(0);
});

test("a game day wants the token, then is played and gives its verdict", async (t) => {
  const page = await open(t, { view: "gamedays" });
  await page.check("#days input[value=down]");
  await page.click("#days-start");
  await page.waitForSelector("#token-box[open]");
  await page.fill("#token", "this is not the token");
  await page.click("#token-form button[type=submit]");
  await page.waitForFunction(() => document.getElementById("token-bad").textContent.includes("not the token"));
  await page.click("#token-close");
  await unlock(page);
  await page.click("#days-start");
  await page.waitForSelector("#run .verdict", { timeout: 90_000 });
  await page.waitForFunction(() => document.getElementById("run-say").textContent.includes("The run is over"), null, { timeout: 90_000 });
  assert.match(await page.textContent("#run .verdict"), /down.*answered/s);
  assert.equal(await page.getAttribute("#run-say", "aria-live"), "polite");
});

test("the configuration shows chains and no secret", async (t) => {
  const page = await open(t, { view: "config" });
  await page.waitForSelector("#config .chain");
  const text = await page.textContent("#config");
  assert.match(text, /openai\/gpt-4o-mini → /);
  assert.doesNotMatch(text, /sk-page-secret|undefined|NaN/);
  assert.ok(text.includes("***"));
});

test("everything can be reached by keyboard alone", async (t) => {
  const page = await open(t);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  for (let n = 0; n < 4; n += 1) await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.hash), "#/exchanges");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => !document.getElementById("view-exchanges").hidden);
  await page.check("#filter-hold");
  await page.waitForSelector("#exchanges button.open");
  await page.focus("#exchanges");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "open");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid", "the focus is seen");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#exchanges tr.detail:not([hidden])");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-expanded")), "true");
  await page.focus("#unlock");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#token-box[open]");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.getElementById("token-box").open);
  assert.equal(await page.evaluate(() => document.activeElement.id), "unlock", "the focus comes back");
});

test("the theme follows the system, can be chosen, and stays", async (t) => {
  const page = await open(t, { scheme: "light" });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.click("#theme");
  const dark = await background();
  assert.notEqual(light, dark);
  assert.equal(await page.getAttribute("#theme", "aria-label"), "Theme: dark");
  await page.reload();
  assert.equal(await background(), dark, "at once, before anything else is loaded");
  await live(page);
});

for (const scheme of ["light", "dark"]) {
  for (const [name, size] of [["desk", DESK], ["phone", PHONE]]) {
    test(`nothing keeps anybody out: ${scheme}, ${name}`, async (t) => {
      // The checker is put into the page, which the page's own policy forbids.
      const page = await open(t, { scheme, size, bypassCSP: true });
      await page.evaluate(AXE);
      for (const view of VIEWS) {
        await page.evaluate((to) => { location.hash = to; }, view);
        await page.waitForSelector(`#view-${view}:not([hidden])`);
        await page.waitForTimeout(1300);
        if (view === "exchanges") {
          await page.check("#filter-hold");
          await page.click("#exchanges button.open");
          await page.waitForSelector("#exchanges tr.detail:not([hidden])");
        }
        const found = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
        const words = found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`);
        assert.deepEqual(words, [], view);
      }
    });
  }
}

test("a phone shows every view without scrolling sideways", async (t) => {
  const page = await open(t, { size: PHONE, scheme: "light" });
  for (const view of VIEWS) {
    await page.evaluate((to) => { location.hash = to; }, view);
    await page.waitForSelector(`#view-${view}:not([hidden])`);
    await page.waitForTimeout(1200);
    const wide = await page.evaluate(() => {
      const sticking = [...document.querySelectorAll("main *")].filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll, .brief, .unseen, pre"));
      return { page: document.documentElement.scrollWidth - innerWidth, sticking: sticking.slice(0, 3).map((element) => element.outerHTML.slice(0, 120)) };
    });
    assert.deepEqual(wide, { page: 0, sticking: [] }, view);
  }
});

test("nothing jumps while figures change", async (t) => {
  const page = await open(t);
  await page.waitForSelector("#charts canvas");
  await page.waitForTimeout(1500);
  const shift = await page.evaluate(() => new Promise((done) => {
    let sum = 0;
    new PerformanceObserver((list) => { for (const entry of list.getEntries()) sum += entry.value; }).observe({ type: "layout-shift" });
    setTimeout(() => done(sum), 6500);
  }));
  assert.ok(shift < 0.05, `layout shift ${shift}`);
});

test("a lost connection is said, and comes back by itself", async (t) => {
  const page = await open(t);
  await page.route("**/events", (route) => route.abort());
  await page.reload();
  await page.waitForFunction(() => document.getElementById("live").dataset.state === "off", null, { timeout: 15_000 });
  assert.match(await page.textContent("#banner"), /No connection.*from before/);
  await page.unroute("**/events");
  await live(page);
  assert.ok(await page.isHidden("#banner"));
  page.complaints.splice(0);
});

test("pictures for the documentation", { skip: !options.shots }, async (t) => {
  for (const scheme of ["dark", "light"]) {
    const page = await open(t, { scheme });
    await page.waitForSelector("#charts canvas");
    await page.waitForTimeout(2500);
    await shot(page, `page-now-${scheme}`);
    await page.evaluate(() => { location.hash = "exchanges"; });
    await page.check("#filter-bad");
    const row = page.locator("#exchanges tr.line", SEVERAL).filter({ hasText: "flaky-vllm" }).first();
    await row.waitFor();
    await page.check("#filter-hold");
    await row.click();
    await shot(page, `page-exchanges-${scheme}`);
    await page.evaluate(() => { location.hash = "targets"; });
    await page.waitForSelector(".card");
    await shot(page, `page-targets-${scheme}`);
    if (scheme === "dark") {
      await page.evaluate(() => { location.hash = "try"; });
      await page.fill("#try-model", "steady");
      await page.click("#try-send");
      await page.waitForFunction(() => document.getElementById("try-times").textContent.includes("done in"));
      await shot(page, "page-try-dark");
      await page.evaluate(() => { location.hash = "gamedays"; });
      await page.waitForSelector("#days tbody tr");
      await shot(page, "page-gamedays-dark");
      await page.evaluate(() => { location.hash = "config"; });
      await page.waitForSelector("#config .chain");
      await shot(page, "page-config-dark");
    }
  }
  const phone = await open(t, { size: PHONE, scheme: "dark" });
  await phone.waitForSelector("#charts canvas");
  await phone.waitForTimeout(1500);
  await shot(phone, "page-phone-dark");
});
