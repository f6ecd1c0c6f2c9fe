// A small router for a server: patterns such as "/users/:id" with handlers that may be asynchronous.

const http = require("node:http");

class Router {
  constructor() {
    this.routes = [];
  }

  on(method, pattern, handler) {
    const names = [];
    const source = pattern.replace(/:(\w+)/g, (_, name) => {
      names.push(name);
      return "([^/]+)";
    });
    this.routes.push({ method, expression: new RegExp(`^${source}$`), names, handler });
    return this;
  }

  match(method, path) {
    for (const { expression, names, handler, method: wanted } of this.routes) {
      const found = wanted === method && expression.exec(path);
      if (found) {
        const params = Object.fromEntries(names.map((name, i) => [name, decodeURIComponent(found[i + 1])]));
        return { handler, params };
      }
    }
    return null;
  }

  async handle(request, response) {
    const url = new URL(request.url, "http://localhost");
    const match = this.match(request.method, url.pathname);
    if (match === null) {
      response.writeHead(404, { "content-type": "text/plain" });
      response.end("not found\n");
      return;
    }
    try {
      const body = await match.handler({ params: match.params, query: url.searchParams, request });
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    } catch (error) {
      console.error(error.stack);
      response.writeHead(500);
      response.end();
    }
  }
}

const notes = new Map([["1", { id: "1", text: "buy milk" }]]);

const router = new Router()
  .on("GET", "/notes", ({ query }) => {
    const word = query.get("q") ?? "";
    return [...notes.values()].filter((note) => note.text.includes(word));
  })
  .on("GET", "/notes/:id", ({ params }) => notes.get(params.id) ?? { error: "no such note" })
  .on("DELETE", "/notes/:id", ({ params }) => ({ deleted: notes.delete(params.id) }));

http.createServer((request, response) => router.handle(request, response)).listen(8080, () => {
  console.log("listening on http://localhost:8080");
});
