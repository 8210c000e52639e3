// The page: views by the address's hash, the connection, the theme, the token.

import { $, count, ms, say } from "./dom.js";
import * as api from "./api.js";
import * as config from "./config.js";
import * as exchanges from "./exchanges.js";
import * as gamedays from "./gamedays.js";
import * as overview from "./overview.js";
import * as targets from "./targets.js";
import * as tryit from "./tryit.js";

const VIEWS = ["now", "targets", "exchanges", "try", "gamedays", "config"];
let state = null;
let access = null;

function view() {
  // The way past the header is no view.
  if (location.hash === "#main") return;
  const wanted = location.hash.replace(/^#\/?/, "");
  const name = VIEWS.includes(wanted) ? wanted : "now";
  for (const section of document.querySelectorAll("[data-view]")) section.hidden = section.dataset.view !== name;
  for (const link of $("tabs").children) {
    const here = link.hash === `#/${name}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (here) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  const title = document.querySelector(`#view-${name} h1`).textContent;
  document.title = `${title} · Sluice`;
  scrollTo(0, 0);
  if (!state) return;
  targets.show(state);
  gamedays.show(state);
  exchanges.visible();
  if (name === "now") overview.refresh();
}

function connection(word, how, banner = "") {
  $("live").dataset.state = how;
  say($("live-text"), word);
  const bar = $("banner");
  bar.hidden = !banner;
  if (banner) say(bar, banner);
}

function took(next) {
  state = next;
  connection("Live", "on");
  overview.show(state);
  targets.show(state);
  gamedays.show(state);
  exchanges.show(state);
  config.show(state);
  if (!$("view-now").hidden) overview.refresh();
  const { gateway, counts } = state;
  say($("foot"), `Sluice ${gateway.version} · ${gateway.workers} worker${gateway.workers === 1 ? "" : "s"} on ${gateway.driver} · up ${ms(state.unix_ms - gateway.started_unix_s * 1000)} · plan ${gateway.plan} · ${count(counts.exchanges)} exchanges${counts.missed ? ` · ${count(counts.missed)} too many to be shown` : ""}${gateway.mock ? " · the built-in mock answers, nothing is real" : ""}`);
}

const followed = api.follow({
  state: took,
  broken: (why, wait) => connection("Away", "off", `No connection: ${why}. Trying again in ${ms(wait)}; what is shown is from before.`),
  refused: (error) => {
    connection("Locked", "off", error.message);
    if (error.status === 401) box(error.message);
  },
});

async function ask() {
  try { access = await api.get("access"); } catch { access = null; }
  const free = Boolean(access?.change);
  say($("unlock"), free ? "Unlocked" : "Read-only");
  $("unlock").title = free ? "This page may change things" : "Changing anything needs the admin token";
}

function box(why = "") {
  say($("token-help"), access?.token_configured === false
    ? "Changing anything needs a token, and none is configured. Set admin: {token: env.SLUICE_ADMIN_TOKEN} in the configuration, reload, and enter it here."
    : "Starting game days, resetting targets and reloading the configuration need the token of admin.token.");
  say($("token-bad"), why);
  $("token-forget").hidden = !api.hasToken();
  if (!$("token-box").open) $("token-box").showModal();
}

$("unlock").addEventListener("click", () => box());
$("token-close").addEventListener("click", () => $("token-box").close());
$("token-forget").addEventListener("click", async () => { api.setToken(""); $("token-box").close(); await ask(); followed.again(); });
$("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const value = $("token").value.trim();
  if (!value) return say($("token-bad"), "Enter the token.");
  api.setToken(value);
  await ask();
  if (!access?.change) { api.setToken(""); await ask(); return say($("token-bad"), "That is not the token of admin.token."); }
  $("token").value = "";
  $("token-box").close();
  followed.again();
});

const may = () => Boolean(access?.change);
targets.begin(may, box);
gamedays.begin(may, box);
config.begin(may, box, (own) => tryit.begin(own, access));

const THEMES = { "": ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  try { name ? localStorage.setItem("sluice-theme", name) : localStorage.removeItem("sluice-theme"); } catch { /* it lasts until reload */ }
  say($("theme-mark"), THEMES[name][0]);
  $("theme").setAttribute("aria-label", `Theme: ${THEMES[name][1]}`);
  $("theme").title = `Theme: ${THEMES[name][1]}`;
  overview.redraw();
}
$("theme").addEventListener("click", () => {
  const order = ["", "dark", "light"];
  theme(order[(order.indexOf(document.documentElement.dataset.theme ?? "") + 1) % 3]);
});
theme(document.documentElement.dataset.theme ?? "");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => overview.redraw());

document.addEventListener("click", async (event) => {
  const from = event.target.closest?.("[data-copy]");
  if (!from) return;
  try { await navigator.clipboard.writeText($(from.dataset.copy).textContent); say(from, "Copied"); } catch { say(from, "Select it by hand"); }
  setTimeout(() => say(from, "Copy"), 1500);
});

addEventListener("hashchange", view);
view();
ask();
