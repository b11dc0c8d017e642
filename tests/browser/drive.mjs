// Drives the examples with a real browser, headless Chromium: what a person does with them, and
// what no test of requests can see: that scripts do not see the cookies, that the back button shows
// no page of a user who is logged out, that sockets close.
//
//   node tests/browser/drive.mjs EXAMPLES SCREENSHOTS [NAME..]
//
// EXAMPLES has the built examples; SCREENSHOTS gets a picture of each system, light and dark.
// BROWSER_PACKAGES: the folder with node_modules/playwright-core; CHROMIUM: the browser's path.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [examples, screenshots, ...names] = process.argv.slice(2);
const packages = createRequire(join(process.env.BROWSER_PACKAGES ?? process.cwd(), "x.js"));
const { chromium } = packages("playwright-core");

const ARGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const WAIT_MS = 15000;

// ---- Servers ------------------------------------------------------------------------------------

const running = new Set();

/** Starts an example; its address is printed once it listens. */
function start(name, ...args) {
  const server = spawn(join(examples, name), args, { stdio: ["ignore", "pipe", "inherit"] });
  running.add(server);
  return new Promise((resolve, reject) => {
    let text = "";
    const late = setTimeout(() => reject(new Error(`${name} does not start: ${text}`)), WAIT_MS);
    server.on("exit", code => reject(new Error(`${name} ended with ${code}: ${text}`)));
    server.stdout.on("data", data => {
      text += data;
      const found = /Listening on (http:\/\/[0-9.:]+)/.exec(text);
      if (!found) return;
      clearTimeout(late);
      const stop = () => new Promise(done => {
        running.delete(server);
        server.removeAllListeners("exit");
        server.on("exit", done);
        server.kill("SIGINT");
      });
      resolve({ url: found[1], port: new URL(found[1]).port, stop });
    });
  });
}

// ---- What is checked ----------------------------------------------------------------------------

let checks = 0;

function check(is, what) {
  if (!is) throw new Error(`not so: ${what}`);
  checks += 1;
}

/** The page shows the text, at the latest after a while. */
async function sees(page, text) {
  await page.getByText(text).first().waitFor({ timeout: WAIT_MS });
  checks += 1;
}

async function lacks(page, text) {
  check(await page.getByText(text).count() === 0, `the page lacks "${text}"`);
}

/** The browser has these cookies, and no script sees any. */
async function hidden(page, ...expected) {
  const cookies = await page.context().cookies();
  const names = cookies.map(cookie => cookie.name).sort();
  check(names.join() === expected.sort().join(), `cookies ${expected}, not ${names}`);
  check(cookies.every(cookie => cookie.httpOnly), "all are HttpOnly");
  check(await page.evaluate("document.cookie") === "", "a script sees no cookie");
}

async function press(page, name) {
  await page.getByRole("button", { name, exact: true }).click();
}

async function picture(page, name) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(screenshots, `${name}-${colorScheme}.png`) });
  }
}

// ---- The systems --------------------------------------------------------------------------------

const systems = {
  async flask(browser) {
    const folder = mkdtempSync(join(tmpdir(), "cloakroom-browser-"));
    const sessions = ["--sessions", join(folder, "flask_session")];
    let server = await start("flask", "--port", "0", ...sessions);
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(server.url);
    check(page.url().endsWith("/login"), "a stranger is sent to the login");
    await page.getByPlaceholder("Name").fill("David");
    await press(page, "Log In");
    await sees(page, "You are logged in as David.");
    await hidden(page, "session");
    await page.reload();
    await sees(page, "You are logged in as David.");
    const tab = await context.newPage();
    await tab.goto(server.url);
    await sees(tab, "You are logged in as David.");
    await picture(tab, "flask");

    await server.stop();
    server = await start("flask", "--port", server.port, ...sessions);
    await page.reload();
    await sees(page, "You are logged in as David.");

    await page.getByRole("link", { name: "Log out" }).click();
    await page.getByPlaceholder("Name").waitFor();
    await page.goBack();
    await lacks(page, "You are logged in as David.");
    await tab.reload();
    await lacks(tab, "You are logged in as David.");
    await page.goto(server.url);
    await page.getByPlaceholder("Name").fill("Emma");
    await press(page, "Log In");
    await press(page, "End the session");
    await page.getByPlaceholder("Name").waitFor();
    await hidden(page);
    await server.stop();
    rmSync(folder, { recursive: true });
  },

  async oxygen(browser) {
    const server = await start("oxygen", "--port", "0");
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(server.url);
    const login = async password => {
      await page.getByLabel("Username").fill("admin");
      await page.getByLabel("Password").fill(password);
      await press(page, "Log in");
    };
    await login("12345");
    await sees(page, "Invalid username or password!");
    await hidden(page);
    await login("1234");
    await sees(page, "Welcome, admin!");
    await hidden(page, "session_id");
    await page.reload();
    await sees(page, "Welcome, admin!");
    await picture(page, "oxygen");
    const old = await context.cookies();
    await press(page, "Log out");
    await page.getByLabel("Username").waitFor();
    await hidden(page);
    await page.goBack();
    await lacks(page, "Welcome, admin!");
    await context.addCookies(old);
    await page.goto(`${server.url}/dashboard`);
    await lacks(page, "Welcome, admin!");
    await context.addCookies([{ ...old[0], value: `${old[0].value}x` }]);
    await page.goto(`${server.url}/dashboard`);
    await lacks(page, "Welcome, admin!");
    await hidden(page);
    await server.stop();
  },

  async justpy(browser) {
    const server = await start("justpy", "--port", "0");
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(server.url);
    await sees(page, "connected");
    await sees(page, "Number of visits: 1");
    await hidden(page, "jp_token");
    const id = await page.locator("code").textContent();
    const clicks = page.locator("#clicks");
    for (let count = 1; count <= 3; count += 1) {
      await clicks.click();
      await sees(page, `Number of Click Events: ${count}`);
    }
    const tab = await context.newPage();
    await tab.goto(server.url);
    await sees(tab, "connected");
    await sees(tab, "Number of visits: 2");
    check(await tab.locator("code").textContent() === id, "tabs share the session");
    await tab.locator("#clicks").click();
    await sees(tab, "Number of Click Events: 4");
    await clicks.click();
    await sees(page, "Number of Click Events: 5");
    await sees(page, "Number of visits: 2");
    await picture(page, "justpy");

    const login = async (where, password) => {
      await where.goto(`${server.url}/login_test`);
      await where.getByLabel("Username").fill("eve");
      await where.getByLabel("Password").fill(password);
      await press(where, "Sign In");
    };
    await login(tab, "wrong");
    await sees(tab, "Password is incorrect");
    await sees(tab, `${id} login not successful`);
    await picture(tab, "justpy-login");
    await tab.getByLabel("Password").fill("password");
    await press(tab, "Sign In");
    await sees(tab, "Login successful. You are now logged in");
    check(!await tab.locator("#alert").isVisible(), "the alert is hidden");
    check(tab.url().endsWith("/login_successful"), "the address is login_successful");
    await tab.waitForURL("**/login_test", { timeout: WAIT_MS });
    await sees(tab, "You are already logged in...");
    // The login changed the id: the first tab's socket was closed, and came back.
    await sees(page, "connected");
    await clicks.click();
    await sees(page, "Number of Click Events: 6");

    const device = await (await browser.newContext()).newPage();
    await login(device, "password");
    await device.waitForURL("**/login_test", { timeout: WAIT_MS });
    await press(device, "Log out everywhere else");
    await sees(device, "1 sessions ended");
    await sees(page, "The session has ended: Revoked");
    await press(device, "Logout");
    await sees(device, "Please login");
    await context.addCookies([{ name: "jp_token", value: "tampered", url: server.url }]);
    const answer = await page.goto(server.url);
    check(answer.status() === 400 && await answer.text() === "Bad Cookie", "a bad cookie is told");
    await page.goto(server.url);
    await sees(page, "Number of visits: 1");
    await server.stop();
  },

  async rails(browser) {
    for (const word of [[], ["cookie"]]) {
      const server = await start("rails", "--port", "0", ...word);
      const names = ["_yourapp_session", ...(word.length ? ["_yourapp_data"] : [])];
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(`${server.url}/about`);
      await hidden(page);
      await page.goto(server.url);
      await hidden(page);
      await press(page, "Get ten");
      await sees(page, "Credits: 10");
      await hidden(page, ...names);
      await press(page, "Log in");
      await sees(page, "Welcome, 42.");
      await page.reload();
      await lacks(page, "Welcome, 42.");
      await sees(page, "Credits: 10");
      await sees(page, "You are 42.");
      const old = await context.cookies();
      for (let left = 9; left >= 0; left -= 1) {
        await press(page, "Spend one");
        await sees(page, `Credits: ${left}`);
      }
      await picture(page, `rails${word.map(name => `-${name}`)}`);
      const present = await context.cookies();
      await context.addCookies(old);
      await page.goto(server.url);
      await sees(page, "Credits: 0");
      await context.addCookies(present);
      await page.goto(server.url);
      await press(page, "Log out");
      await page.getByLabel("User id").waitFor();
      await hidden(page);
      await page.goBack();
      await lacks(page, "You are 42.");
      await context.addCookies(present);
      await page.goto(server.url);
      await lacks(page, "You are 42.");
      await server.stop();
    }
  },

  async notebook(browser) {
    const server = await start("notebook", "--port", "0");
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(server.url);
    const token = await page.getByLabel("Token").inputValue();
    await page.getByLabel("Token").fill(`${token.slice(0, -2)}xx`);
    await press(page, "Log in");
    await sees(page, "The token is not valid");
    await hidden(page);
    await page.goto(server.url);
    await page.getByLabel("Token").fill(token);
    await press(page, "Log in");
    await sees(page, "You are logged in as alice.");
    await hidden(page, "kc_access_token_plain", "_session_demo_app_session");
    await picture(page, "notebook");
    await press(page, "Log out");
    await page.getByLabel("Token").waitFor();
    await hidden(page);
    await page.goBack();
    await lacks(page, "You are logged in as alice.");
    await picture(page, "notebook-login");
    await server.stop();
  },

  /** The login server behind TLS: a `__Host-` cookie is set, and really removed. */
  async login(browser) {
    const server = await start("login", "--port", "0", "--memory", "--secure");
    // Browsers count this host as secure without TLS.
    const url = `http://localhost:${server.port}`;
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${url}/login`);
    await page.getByLabel("Name").fill("alice");
    await page.getByLabel("Password").fill("wonderland");
    await press(page, "Log in");
    await sees(page, "Hello, alice");
    await hidden(page, "__Host-id");
    const [cookie] = await context.cookies();
    check(cookie.secure && cookie.path === "/", "the cookie is Secure, for all paths");
    await press(page, "Log out");
    await page.getByLabel("Password").waitFor();
    await hidden(page);
    await page.goBack();
    await lacks(page, "Hello, alice");
    await server.stop();
  },
};

// ---- All ----------------------------------------------------------------------------------------

mkdirSync(screenshots, { recursive: true });
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
let failed = 0;
for (const name of names.length ? names : Object.keys(systems)) {
  const profile = mkdtempSync(join(tmpdir(), "cloakroom-chromium-"));
  const browser = await chromium.launch({
    executablePath, headless: true, args: [...ARGS, `--disk-cache-dir=${profile}`],
  });
  checks = 0;
  try {
    await systems[name](browser);
    console.log(`${name}: ${checks} checks`);
  } catch (error) {
    failed += 1;
    console.log(`${name}: FAILED after ${checks} checks: ${error.stack}`);
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
    for (const server of running) server.kill("SIGKILL");
    running.clear();
  }
}
console.log(`screenshots in ${screenshots}`);
process.exit(failed === 0 ? 0 : 1);
