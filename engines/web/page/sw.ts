/** Keeps all files of the page for use without a network, and sets the headers that threads need. */
const worker = self as unknown as {
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
  addEventListener(kind: string, listener: (event: WorkerEvent) => void): void;
};
interface WorkerEvent {
  waitUntil(work: Promise<unknown>): void;
  request: Request;
  respondWith(response: Promise<Response>): void;
}
const CACHE = "htr-__VERSION__"; // `htr-export site` writes a digest of all files here

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  let response = await cache.match(request, { ignoreSearch: true });
  if (!response) {
    response = await fetch(request, { cache: "no-cache" }); // another version's file may be in the browser's own cache
    if (response.ok) await cache.put(request, response.clone());
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

async function takeOver(): Promise<void> {
  for (const name of await caches.keys()) if (name.startsWith("htr-") && name !== CACHE) await caches.delete(name);
  await worker.clients.claim();
}

worker.addEventListener("install", (event) => event.waitUntil(worker.skipWaiting()));
worker.addEventListener("activate", (event) => event.waitUntil(takeOver()));
worker.addEventListener("fetch", (event) => {
  const own = new URL(event.request.url).origin === location.origin;
  if (own && event.request.method === "GET") event.respondWith(answer(event.request));
});
