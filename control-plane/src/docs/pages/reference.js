"use strict";
// The reference of this very origin; nothing is asked of any other.
window.addEventListener("load", () => {
  window.SwaggerUIBundle({
    url: "/api/openapi.json",
    dom_id: "#reference",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    docExpansion: "list",
    persistAuthorization: false,
    tryItOutEnabled: false,
    validatorUrl: null,
  });
});
