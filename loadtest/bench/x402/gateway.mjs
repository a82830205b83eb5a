// An x402 payment gateway as its documentation shows one: Express with the official middleware, in front of the
// bench's seller. What would leave the machine is answered here and at once: the facilitator finds every payment
// good, which is more favourable than any real one.
//
// node gateway.mjs LISTEN_PORT UPSTREAM_PORT PATH

import http from "node:http";
import express from "express";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { ExactEvmScheme } from "@x402/evm/exact/server";

const NETWORK = "eip155:84532";
const SELLER = "0x0000000000000000000000000000000000000001";
const PAYER = "0x0000000000000000000000000000000000000002";
const TRANSACTION = `0x${"0".repeat(64)}`;

const [listenPort, upstreamPort, path] = process.argv.slice(2);

const facilitator = {
  getSupported: async () => ({
    kinds: [{ x402Version: 2, scheme: "exact", network: NETWORK }],
    extensions: [],
    signers: {},
  }),
  verify: async () => ({ isValid: true, payer: PAYER }),
  settle: async () => ({ success: true, transaction: TRANSACTION, network: NETWORK, payer: PAYER }),
};

const agent = new http.Agent({ keepAlive: true, maxSockets: 512 });

/** Passes the call on and the answer back, whole. */
function forward(request, response) {
  const passed = http.request(
    {
      agent,
      port: upstreamPort,
      method: "POST",
      path: request.originalUrl,
      headers: { "content-type": request.headers["content-type"], "content-length": request.body.length },
    },
    (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => {
        response.status(answer.statusCode).type(answer.headers["content-type"]).send(Buffer.concat(parts));
      });
    },
  );
  passed.on("error", (error) => response.status(502).send(error.message));
  passed.end(request.body);
}

const app = express();
const price = { scheme: "exact", price: "$0.05", network: NETWORK, payTo: SELLER };
const resources = new x402ResourceServer(facilitator).register(NETWORK, new ExactEvmScheme());
app.use(paymentMiddleware({ [`POST ${path}`]: { accepts: price, description: "Bench" } }, resources));
app.post(path, express.raw({ type: () => true, limit: "8mb" }), forward);

const server = app.listen(Number(listenPort), "127.0.0.1");
server.keepAliveTimeout = 3_600_000;
